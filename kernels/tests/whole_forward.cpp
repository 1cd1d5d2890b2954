// Whole small models, forward after forward, on every path that this processor supports: paths with fused multiply-add
// must agree bit for bit. Prints a digest of the results, for other runs to be compared with, and the paths, best first.
// Exits 1 at a disagreement.
//
//     whole_forward [THREADS [PATH]]     2 threads, all paths
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "../decode.h"
#include "../transformer.h"

using namespace tokenworks;

namespace {

constexpr int kPages = 26, kManyPages = 18;

Shape basis() {
    Shape shape;
    shape.layers = 2, shape.hidden = 96, shape.heads = 6, shape.kv_heads = 2, shape.head_dim = 16;
    shape.feed_forward = 160, shape.vocabulary = 200;
    shape.norm_epsilon = 1e-5f;
    shape.query_scale = 0.25f;
    for (int i = 0; i < shape.head_dim / 2; ++i) shape.inverse_frequencies.push_back(1.0f / float(1 << i));
    return shape;
}

Shape like_llama() {
    Shape shape = basis();
    shape.interleaved = true;
    return shape;
}

Shape like_gemma() {
    Shape shape = basis();
    shape.norms = NormPlace::around;
    shape.activation = Activation::gelu_tanh;
    shape.embedding_scale = 3.0f;
    shape.windows = {8, 0};
    shape.window_frequencies = shape.inverse_frequencies;
    return shape;
}

Shape like_bert() {
    Shape shape = basis();
    shape.kv_heads = shape.heads;
    shape.layer_norms = true;
    shape.norms = NormPlace::after;
    shape.activation = Activation::gelu;
    shape.gated = shape.causal = false;
    shape.positions = 32;
    shape.inverse_frequencies.clear();
    return shape;
}

// No size is a multiple of a group of 32, or of a panel where it need not be: products are bf16, panels have gaps.
Shape odd() {
    Shape shape = basis();
    shape.layers = 1, shape.hidden = 72, shape.heads = 5, shape.kv_heads = 1, shape.head_dim = 48;
    shape.feed_forward = 33, shape.vocabulary = 37;
    shape.inverse_frequencies.resize(7, 0.01f);
    return shape;
}

// Heads of five panels, and products of fewer panels than there may be threads.
Shape wide_heads() {
    Shape shape = basis();
    shape.layers = 3, shape.hidden = 64, shape.heads = 3, shape.kv_heads = 3, shape.head_dim = 80;
    shape.feed_forward = 32, shape.vocabulary = 49;
    return shape;
}

Shape with_int8_pages(Shape shape) {
    shape.kv_format = KvFormat::int8;
    return shape;
}

// Random weights, the same on every machine: drawn from bits, not by the library's distributions.
class Weights {
public:
    std::vector<float> floats(size_t count, float low, float high) {
        std::vector<float> values(count);
        for (float& value : values) value = low + (high - low) * (float(bits_() >> 8) / 16777216.0f);
        return values;
    }
    std::vector<uint8_t> rows(Source source, int rows, int inputs) {
        std::vector<uint8_t> raw(row_bytes(source, inputs) * size_t(rows));
        if (source == Source::f32) {
            const auto values = floats(size_t(rows) * inputs, -0.2f, 0.2f);
            std::memcpy(raw.data(), values.data(), raw.size());
            return raw;
        }
        for (uint8_t& byte : raw) byte = uint8_t(bits_());
        const size_t block = source == Source::q8_0 ? 34 : 18;
        for (size_t at = 0; at < raw.size(); at += block) {  // fp16 scales that make weights of about ±0.2
            const uint16_t scale = uint16_t((source == Source::q8_0 ? 0x1400 : 0x2400) + bits_() % 0x400);
            std::memcpy(&raw[at], &scale, 2);
        }
        return raw;
    }

private:
    std::mt19937 bits_{11};
};

void set_vectors(Transformer& model, Weights& weights, int layer, const std::vector<std::string>& names) {
    for (const std::string& name : names) {
        const bool bias = name.find(".bias") != std::string::npos || name == "position_embd";
        const size_t count = size_t(model.vector_size(name));
        model.set_vector(layer, name, weights.floats(count, bias ? -0.1f : 0.8f, bias ? 0.1f : 1.25f).data());
    }
}

void set_layer(Transformer& model, Weights& weights, int layer) {
    const Shape& shape = model.shape();
    struct Stored { const char* name; Source source; std::optional<Format> format; };
    const Stored matrices[] = {
        {"attn_q", Source::q4_0, {}},   {"attn_k", Source::f32, Format::q4}, {"attn_v", Source::q8_0, {}},
        {"attn_output", Source::q4_0, Format::q6}, {"ffn_gate", Source::q4_0, {}}, {"ffn_up", Source::q8_0, Format::q6},
        {"ffn_down", Source::f32, {}}};
    for (const auto& [name, preferred, format] : matrices) {
        if (!shape.gated && name == std::string("ffn_gate")) continue;
        const auto [rows, inputs] = model.matrix_size(name);
        const Source source = inputs % kGroup ? Source::f32 : preferred;
        model.set_matrix(layer, name, {source, weights.rows(source, rows, inputs).data()}, {format});
    }
    std::vector<std::string> vectors;
    if (shape.norms == NormPlace::before) vectors = {"attn_norm.weight", "ffn_norm.weight"};
    if (shape.norms == NormPlace::around)
        vectors = {"attn_norm.weight",   "ffn_norm.weight",    "post_attention_norm.weight", "post_ffw_norm.weight",
                   "attn_q_norm.weight", "attn_k_norm.weight", "attn_q.bias",                "attn_k.bias"};
    if (shape.norms == NormPlace::after)
        vectors = {"attn_output_norm.weight", "attn_output_norm.bias", "layer_output_norm.weight",
                   "layer_output_norm.bias",  "attn_v.bias",           "attn_output.bias",
                   "ffn_up.bias",             "ffn_down.bias"};
    set_vectors(model, weights, layer, vectors);
}

// Two sequences: a prompt of 19 tokens in one, of 5 in the other, then, unless it is an encoder, five tokens for each,
// and beside the prompt of a third, of 35 tokens, four drafted ones; then two tokens after nine that were copied. Every row's
// logits, or vectors.
std::vector<float> results_of(const Kernels& kernels, const Shape& shape, int threads) {
    Transformer model(kernels, threads, shape);
    Weights weights;
    const Source source = shape.hidden % kGroup ? Source::f32 : Source::q8_0;
    const auto embedding = weights.rows(source, shape.vocabulary, shape.hidden);
    model.set_embedding(source, embedding.data());
    if (shape.causal) {
        model.set_matrix(-1, "output", {source, embedding.data()}, {Format::q6});
        set_vectors(model, weights, -1, {"output_norm.weight"});
    } else {
        set_vectors(model, weights, -1, {"position_embd", "token_embd_norm.weight", "token_embd_norm.bias"});
    }
    for (int layer = 0; layer < shape.layers; ++layer) set_layer(model, weights, layer);
    if (!model.complete()) return {};
    model.allocate(kPages);

    const int32_t first[] = {5, 2, 7}, second[] = {0, 6}, third[] = {3, 1, 4};
    const int width = shape.causal ? shape.vocabulary : shape.hidden;
    const int stride = shape.causal ? model.logit_stride() : shape.hidden;
    std::vector<float> all;
    auto forward = [&](const std::vector<SpanView>& spans) {
        std::vector<int32_t> tokens, wanted;
        for (const SpanView& span : spans)
            for (int i = 0; i < span.length; ++i) {
                wanted.push_back(int32_t(tokens.size()));
                tokens.push_back((7 * (span.start + i) + 31 * (span.pages == first)) % shape.vocabulary);
            }
        const int rows = int(tokens.size());
        std::vector<float> out(size_t(rows) * stride);
        model.forward(tokens.data(), rows, spans, wanted.data(), rows, !shape.causal, out.data());
        for (int row = 0; row < rows; ++row)
            all.insert(all.end(), &out[size_t(row) * stride], &out[size_t(row) * stride] + width);
    };
    forward({{0, 0, 19, first}});
    forward({{0, 0, 5, second}});
    for (int step = 0; shape.causal && step < 5; ++step)
        forward({{0, 19 + step, 1, first}, {1, 5 + step, 1, second}});
    if (shape.causal) forward({{0, 24, 4, first}, {4, 0, 35, third}, {39, 10, 1, second}});
    if (shape.causal) {
        const int32_t copied[] = {6};
        std::vector<uint8_t> page(model.page_bytes());
        model.copy_rows(second[0], copied[0], 9);
        model.read_page(copied[0], page.data());
        model.write_page(copied[0], page.data());
        forward({{0, 9, 2, copied}});
    }
    if (shape.layers == wide_heads().layers) {  // of one shape, for the time it takes
        // Two blocks of rows and a part of one, more than two threads have; they end within pages.
        std::vector<int32_t> many(kManyPages);
        std::iota(many.begin(), many.end(), kPages - kManyPages);
        forward({{0, 28, 1, first}, {1, 0, 16 * kManyPages - 5, many.data()}});
    }
    return all;
}

// Wide products are nearer to the weights than others, so not the same bits.
bool near(const std::vector<float>& a, const std::vector<float>& b) {
    double difference = 0, size = 0;
    for (size_t i = 0; i < a.size(); ++i) difference += (a[i] - b[i]) * (a[i] - b[i]), size += b[i] * b[i];
    return a.size() == b.size() && difference <= 1e-3 * size;
}

bool sane(const std::vector<float>& results) {
    for (float value : results)
        if (!std::isfinite(value) || std::fabs(value) > 1000) return false;
    return !results.empty();
}

}  // namespace

int main(int argc, char** argv) {
    const int threads = argc > 1 ? std::atoi(argv[1]) : 2;
    const std::string wanted = argc > 2 ? argv[2] : "";
    std::vector<float> expected, wide;
    std::vector<const Kernels*> paths;
    for (int i = 0; i < kNumKernels; ++i)
        if (kAllKernels[i]->supported() && (wanted.empty() || wanted == kAllKernels[i]->name))
            paths.push_back(kAllKernels[i]);
    for (const Kernels* path : paths) {
        std::vector<float> results;
        for (const Shape& shape : {like_llama(), like_gemma(), like_bert(), odd(), wide_heads(), with_int8_pages(like_gemma()),
                                   with_int8_pages(like_bert()), with_int8_pages(odd()), with_int8_pages(wide_heads())}) {
            const auto some = results_of(*path, shape, threads);
            if (!sane(some)) {
                std::printf("FAILED: no sane results on %s\n", path->name);
                return 1;
            }
            results.insert(results.end(), some.begin(), some.end());
        }
        if (path->widen) {
            wide = results;
            continue;
        }
        if (expected.empty()) expected = results;
        const bool fuses = path != &kPortableKernels;  // the portable path rounds a product before it adds
        if (fuses && std::memcmp(results.data(), expected.data(), results.size() * sizeof(float)) != 0) {
            std::printf("FAILED: %s and %s differ\n", path->name, paths[0]->name);
            return 1;
        }
    }
    if (expected.empty()) expected = wide;  // it was asked for alone
    if (!wide.empty() && !near(wide, expected)) {
        std::printf("FAILED: wide products are far from the others\n");
        return 1;
    }
    uint64_t digest = 0xcbf29ce484222325;
    for (size_t i = 0; i < expected.size() * sizeof(float); ++i)
        digest = (digest ^ reinterpret_cast<const uint8_t*>(expected.data())[i]) * 0x100000001b3;
    std::printf("digest %016llx, %zu numbers on", static_cast<unsigned long long>(digest), expected.size());
    for (const Kernels* path : paths) std::printf(" %s", path->name);
    std::printf("\n");
}
