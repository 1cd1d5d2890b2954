// How a transformer comes by its weights: by GGUF's names, checked against its shape.
#include <cstring>
#include <stdexcept>
#include <utility>

#include "run.h"

namespace tokenworks {

namespace {

constexpr int kOuter = -1;

struct MatrixName {
    const char* name;
    Matrix Layer::*matrix;
};

constexpr MatrixName kMatrices[] = {
    {"attn_q", &Layer::query}, {"attn_k", &Layer::key},   {"attn_v", &Layer::value}, {"attn_output", &Layer::output},
    {"ffn_gate", &Layer::gate}, {"ffn_up", &Layer::up}, {"ffn_down", &Layer::down},
};

struct NormName {
    const char* name;
    NormWeights Layer::*weights;
};

constexpr NormName kNorms[] = {
    {"attn_norm", &Layer::before_attention},         {"ffn_norm", &Layer::before_feed_forward},
    {"post_attention_norm", &Layer::after_attention}, {"post_ffw_norm", &Layer::after_feed_forward},
    {"attn_output_norm", &Layer::after_attention},    {"layer_output_norm", &Layer::after_feed_forward},
};

struct VectorName {
    const char* name;
    const float* Layer::*values;
};

constexpr VectorName kVectors[] = {
    {"attn_q.bias", &Layer::query_bias},   {"attn_k.bias", &Layer::key_bias},
    {"attn_v.bias", &Layer::value_bias},   {"attn_output.bias", &Layer::output_bias},
    {"ffn_gate.bias", &Layer::gate_bias},  {"ffn_up.bias", &Layer::up_bias},
    {"ffn_down.bias", &Layer::down_bias},  {"attn_q_norm.weight", &Layer::query_norm},
    {"attn_k_norm.weight", &Layer::key_norm},
};

std::invalid_argument unknown(const std::string& name) { return std::invalid_argument("unknown tensor " + name); }

bool begins(const std::string& text, const char* with) { return text.rfind(with, 0) == 0; }

}  // namespace

std::pair<int, int> Transformer::matrix_size(const std::string& name) const {
    const Shape& s = shape_;
    if (name == "token_embd" || name == "output") return {s.vocabulary, s.hidden};
    if (name == "attn_q") return {s.queries(), s.hidden};
    if (name == "attn_k" || name == "attn_v") return {s.keys(), s.hidden};
    if (name == "attn_output") return {s.hidden, s.queries()};
    if (name == "ffn_gate" || name == "ffn_up") return {s.feed_forward, s.hidden};
    if (name == "ffn_down") return {s.hidden, s.feed_forward};
    throw unknown(name);
}

int Transformer::vector_size(const std::string& name) const {
    if (name == "position_embd") return shape_.positions * shape_.hidden;
    if (begins(name, "attn_q_norm") || begins(name, "attn_k_norm")) return shape_.head_dim;
    const size_t dot = name.find('.');
    if (name.substr(dot + 1) == "bias")
        for (const auto& known : kMatrices)
            if (name.substr(0, dot) == known.name) return matrix_size(known.name).first;
    return shape_.hidden;
}

// The order in which rows are taken so that rotated pairs become (i, i + half), which suits vectors; queries and keys
// alike, so that their products stay. Empty: as they are.
std::vector<int> Transformer::rotary_order(const std::string& name) const {
    const bool of_keys = begins(name, "attn_k"), of_queries = begins(name, "attn_q");
    if (!shape_.interleaved || (!of_keys && !of_queries)) return {};
    const bool of_head = begins(name, "attn_q_norm") || begins(name, "attn_k_norm");
    const int heads = of_head ? 1 : of_keys ? shape_.kv_heads : shape_.heads, size = shape_.head_dim;
    const int pairs = shape_.pairs();
    std::vector<int> order(size_t(heads) * size_t(size));
    for (int h = 0; h < heads; ++h)
        for (int i = 0; i < size; ++i) {
            const int from = i < pairs ? 2 * i : i < 2 * pairs ? 2 * (i - pairs) + 1 : i;
            order[size_t(h) * size_t(size) + size_t(i)] = h * size + from;
        }
    return order;
}

void Transformer::set_embedding(Source source, const uint8_t* raw) {
    embedding_source_ = source;
    embedding_ = raw;
}

void Transformer::set_matrix(int index, const std::string& name, const Tensor& tensor, const Wanted& wanted) {
    const auto [rows, inputs] = matrix_size(name);
    const std::vector<int> order = rotary_order(name);
    auto pack_into = [&, rows = rows, inputs = inputs](Matrix& matrix) {
        matrix = pack(kernels_, arena_, team_, tensor, rows, inputs, order.empty() ? nullptr : order.data(), wanted, matrix);
    };
    if (index == kOuter && name == "output") return pack_into(head_);
    if (index != kOuter)
        for (const auto& known : kMatrices)
            if (name == known.name) return pack_into(layers_[size_t(index)].*known.matrix);
    throw unknown(name);
}

const float** Transformer::vector_slot(Layer& layer, const std::string& name) {
    for (const auto& known : kVectors)
        if (name == known.name) return &(layer.*known.values);
    const size_t dot = name.find('.');
    for (const auto& known : kNorms)
        if (name.substr(0, dot) == known.name) {
            NormWeights& norm = layer.*known.weights;
            return name.substr(dot) == ".bias" ? &norm.bias : &norm.weight;
        }
    throw unknown(name);
}

void Transformer::set_vector(int index, const std::string& name, const float* values) {
    const float** slot = index != kOuter              ? vector_slot(layers_[size_t(index)], name)
                         : name == "position_embd"         ? &positions_
                         : name == "output_norm.weight"     ? &final_norm_.weight
                         : name == "output_norm.bias"       ? &final_norm_.bias
                         : name == "token_embd_norm.weight" ? &embedding_norm_.weight
                         : name == "token_embd_norm.bias"   ? &embedding_norm_.bias
                                                            : throw unknown(name);
    const int size = vector_size(name);
    auto* copy = reinterpret_cast<float*>(arena_.allocate(size_t(size) * sizeof(float)));
    const std::vector<int> order = rotary_order(name);
    if (order.empty())
        std::memcpy(copy, values, size_t(size) * sizeof(float));
    else
        for (int i = 0; i < size; ++i) copy[i] = values[order[size_t(i)]];
    *slot = copy;
}

bool Transformer::complete() const {
    auto norm_set = [&](const NormWeights& norm) { return norm.weight && (norm.bias || !shape_.layer_norms); };
    const bool learned = shape_.positions > 0;
    if (!embedding_ || (learned && !(positions_ && norm_set(embedding_norm_)))) return false;
    if (shape_.causal && !(head_.data && norm_set(final_norm_))) return false;
    for (const Layer& l : layers_) {
        const bool before = shape_.norms != NormPlace::after, after = shape_.norms != NormPlace::before;
        if (before && !(norm_set(l.before_attention) && norm_set(l.before_feed_forward))) return false;
        if (after && !(norm_set(l.after_attention) && norm_set(l.after_feed_forward))) return false;
        for (const auto& known : kMatrices)
            if (!(l.*known.matrix).data && (shape_.gated || known.matrix != &Layer::gate)) return false;
    }
    return true;
}

}  // namespace tokenworks
