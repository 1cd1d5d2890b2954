#include "transformer.h"

#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <new>
#include <stdexcept>

#include "decode.h"
#include "run.h"

namespace tokenworks {

namespace {

// Up to one tile of rows is prepared by every thread for itself. Threads that share the work would write the same cache lines
// (layout.h), which costs more than doing it twice where cores share no cache, and wait for each other besides.
constexpr int kMostOwnRows = kTileRows;

int round_up(int x, int multiple) { return (x + multiple - 1) / multiple * multiple; }

// Whether the feed forward's features become what its last matrix reads a group at a time, each by itself.
bool quantised_in_place(const Matrix& down) { return Forms(down).groups; }

}  // namespace

Transformer::Slot Transformer::slot_of(const Run& run, int row) {
    const SpanView& span = run.spans[size_t(run.span_of_row[size_t(row)])];
    const int position = run.position(row);
    const int offset = position % kPageTokens;
    // Later tokens of the page, if any come, are written by later forwards: until then nothing may be there.
    const bool begun_here = position - offset >= span.start, last = row + 1 == span.row + span.length;
    return {span.pages[position / kPageTokens], offset, begun_here && last};
}

Transformer::Transformer(const Kernels& kernels, int threads, Shape shape)
    : kernels_(kernels),
      shape_(std::move(shape)),
      hidden_stride_(round_up(shape_.hidden, kPanelRows)),
      team_(threads),
      crew_(threads),
      layers_(size_t(shape_.layers)),
      scratch_(std::make_unique<Scratch>()) {
    if (shape_.head_dim % kPanelRows != 0) throw std::invalid_argument("head_dim is not a multiple of 16");
    if (shape_.heads % shape_.kv_heads != 0) throw std::invalid_argument("heads is not a multiple of kv_heads");
    if (2 * shape_.pairs() > shape_.head_dim) throw std::invalid_argument("more rotated dimensions than head_dim");
    if (!shape_.windows.empty())
        for (size_t i = 0; i < layers_.size(); ++i) layers_[i].window = shape_.windows.at(i);
    for (Layer& layer : layers_) {
        auto& known = scratch_->attentions;
        const auto same = [&](const LayerAttention& attention) { return attention.window == layer.window; };
        layer.attention = size_t(std::find_if(known.begin(), known.end(), same) - known.begin());
        if (layer.attention == known.size()) known.push_back({layer.window});
    }
    if (shape_.window_frequencies.empty()) shape_.window_frequencies = shape_.inverse_frequencies;
    scratch_->cursors = std::vector<Cursor>(size_t(shape_.layers + 1) * kOperations * size_t(threads));
    scratch_->own_normalised.resize(size_t(threads));
    scratch_->own_attention.resize(size_t(threads));
    scratch_->own_feed_forward.resize(size_t(threads));
    scratch_->own_x.resize(size_t(threads));
    scratch_->block.resize(size_t(threads));
    scratch_->attention_scratch.resize(size_t(threads));
}

Transformer::~Transformer() {
    if (kv_) munmap(kv_, kv_bytes_);
}

size_t Transformer::page_bytes() const {
    return size_t(shape_.layers) * shape_.kv_heads * head_page_bytes(shape_.kv_format, shape_.head_dim);
}

void Transformer::allocate(int pages) {
    if (kv_) throw std::logic_error("pages are allocated already");
    kv_bytes_ = std::max<size_t>(1, page_bytes() * size_t(pages));
    void* p = mmap(nullptr, kv_bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) throw std::bad_alloc();
    kv_ = static_cast<uint8_t*>(p);
    pages_ = pages;
}

KeyValues Transformer::key_values(int layer) const {
    const size_t stride = page_bytes() / size_t(shape_.layers);
    return {kv_ + stride * size_t(pages_) * size_t(layer), stride, shape_.head_dim, shape_.kv_format};
}

void Transformer::copy_rows(int from, int to, int rows) {
    for (int layer = 0; layer < shape_.layers; ++layer)
        for (int head = 0; head < shape_.kv_heads; ++head) key_values(layer).copy_rows(from, to, rows, head);
}

void Transformer::read_page(int page, uint8_t* out) const {
    for (int layer = 0; layer < shape_.layers; ++layer) {
        const KeyValues kv = key_values(layer);
        std::memcpy(out + kv.page_stride * size_t(layer), kv.part(page, 0), kv.page_stride);
    }
}

void Transformer::write_page(int page, const uint8_t* bytes) {
    for (int layer = 0; layer < shape_.layers; ++layer) {
        const KeyValues kv = key_values(layer);
        std::memcpy(kv.part(page, 0), bytes + kv.page_stride * size_t(layer), kv.page_stride);
    }
}

void Transformer::norm(const float* x, const NormWeights& weights, float* y) const {
    if (weights.bias)
        kernels_.layer_norm(x, weights.weight, weights.bias, shape_.norm_epsilon, shape_.hidden, y);
    else
        kernels_.rms_norm(x, weights.weight, shape_.norm_epsilon, shape_.hidden, y);
}

// The residual's first value, in each thread's own rows.
void Transformer::embed(const Run& run, int thread) const {
    const size_t bytes = row_bytes(embedding_source_, shape_.hidden);
    const Inputs& in = run.inputs[size_t(thread)];
    const bool shared = in.x == run.x;
    for (int row = shared ? thread : 0; row < run.rows; row += shared ? run.threads : 1) {
        float* x = in.x + size_t(row) * hidden_stride_;
        decode_row(embedding_source_, embedding_ + bytes * size_t(run.tokens[row]), shape_.hidden, x);
        if (shape_.embedding_scale != 1.0f)
            for (int i = 0; i < shape_.hidden; ++i) x[i] *= shape_.embedding_scale;
        if (shape_.positions > 0) {
            kernels_.add_to(x, positions_ + size_t(run.position(row)) * shape_.hidden, shape_.hidden);
            norm(x, embedding_norm_, x);
        }
    }
}

// By which angles each row is rotated.
void Transformer::turn(const Run& run, int thread) const {
    const size_t pairs = size_t(shape_.pairs());
    auto fill = [&](const Angles& angles, const std::vector<float>& frequencies, int row) {
        for (size_t i = 0; i < pairs; ++i) {
            const double angle = double(run.position(row)) * double(frequencies[i]);
            angles.cosine[size_t(row) * pairs + i] = float(std::cos(angle));
            angles.sine[size_t(row) * pairs + i] = float(std::sin(angle));
        }
    };
    for (int row = thread; row < run.rows; row += run.threads) {
        fill(run.angles, shape_.inverse_frequencies, row);
        if (!shape_.windows.empty()) fill(run.window_angles, shape_.window_frequencies, row);
    }
}

// What a branch reads: the residual, normalised unless that comes after.
void Transformer::prepare(const float* x, const NormWeights& weights, int rows, const Forms& forms, const Inputs& in) const {
    in.each_row(rows, [&](int row) {
        const Activations out = in.normalised.from_row(row);
        const float* from = x + size_t(row) * hidden_stride_;
        if (weights.weight)
            norm(from, weights, out.floats);
        else
            std::memcpy(out.floats, from, size_t(shape_.hidden) * sizeof(float));
        quantise(forms, out.floats, shape_.hidden, out);
    });
}

// A branch's result joins the residual.
void Transformer::absorb(const Run& run, const Inputs& in, const NormWeights& weights, const float* bias) const {
    const int size = shape_.hidden;
    in.each_row(run.rows, [&](int row) {
        float* x = in.x + size_t(row) * hidden_stride_;
        float* branch = in.normalised.from_row(row).floats;  // free until the next `prepare`
        std::memcpy(branch, run.branch + size_t(row) * hidden_stride_, size_t(size) * sizeof(float));
        if (bias) kernels_.add_to(branch, bias, size);
        if (shape_.norms == NormPlace::around) norm(branch, weights, branch);
        kernels_.add_to(x, branch, size);
        if (shape_.norms == NormPlace::after) norm(x, weights, x);
    });
}

// One row, in the forms that its readers want.
void Transformer::quantise(const Forms& forms, const float* x, int size, const Activations& out) const {
    if (forms.groups) kernels_.quantise(x, size, out);
    if (forms.wide) kernels_.quantise_wide(x, size, out);
}

// All rows that a matrix reads, from their floats.
void Transformer::quantise_rows(const Run& run, const Matrix& reader, int size, const Activations& rows, const Inputs& in) const {
    const Forms forms(reader);
    in.each_row(run.rows, [&](int row) { quantise(forms, rows.floats + size_t(row) * rows.stride, size, rows.from_row(row)); });
}

// One head of one row's queries or keys, after its product and bias: its norm if it has one, then its rotation.
void Transformer::finish_head(const Run& run, const Layer& layer, const float* norm, int row, float* x) const {
    const int pairs = shape_.pairs();
    const Angles& angles = layer.window > 0 ? run.window_angles : run.angles;
    if (norm) kernels_.rms_norm(x, norm, shape_.norm_epsilon, shape_.head_dim, x);
    kernels_.rotate(x, angles.cosine + size_t(row) * pairs, angles.sine + size_t(row) * pairs, pairs);
}

void Transformer::project_query(const Run& run, const Layer& layer, const Activations& in, Rows rows, int head) const {
    const int size = shape_.head_dim, panels = size / kPanelRows;
    const size_t stride = size_t(shape_.queries());
    float* out = run.query + size_t(rows.first) * stride + size_t(head) * size;
    kernels_.product(layer.query, head * panels, (head + 1) * panels, in.from_row(rows.first), rows.count, out, stride, false);
    for (int i = 0; i < rows.count; ++i) {
        float* query = out + size_t(i) * stride;
        if (layer.query_bias) kernels_.add_to(query, layer.query_bias + head * size, size);
        finish_head(run, layer, layer.query_norm, rows.first + i, query);
        for (int d = 0; d < size; ++d) query[d] *= shape_.query_scale;
    }
}

void Transformer::project_key(const Run& run, int index, const Activations& in, Rows rows, int head, int thread) const {
    const int size = shape_.head_dim, panels = size / kPanelRows;
    const Layer& layer = layers_[size_t(index)];
    const KeyValues kv = key_values(index);
    float* block = run.scratch.block[size_t(thread)].data();
    kernels_.product(layer.key, head * panels, (head + 1) * panels, in.from_row(rows.first), rows.count, block, size_t(size),
                     false);
    for (int i = 0; i < rows.count; ++i) {
        float* key = block + size_t(i) * size;
        if (layer.key_bias) kernels_.add_to(key, layer.key_bias + head * size, size);
        finish_head(run, layer, layer.key_norm, rows.first + i, key);
        const Slot slot = slot_of(run, rows.first + i);
        kernels_.store_key(key, kv, slot.page, head, slot.offset);
    }
}

void Transformer::project_value(const Run& run, int index, const Activations& in, Rows rows, int piece, int thread) const {
    const Layer& layer = layers_[size_t(index)];
    const KeyValues kv = key_values(index);
    const int panels = value_panels(), begin = piece * panels, width = panels * kPanelRows, first = begin * kPanelRows;
    const int size = shape_.head_dim;
    float* block = run.scratch.block[size_t(thread)].data();
    kernels_.product(layer.value, begin, begin + panels, in.from_row(rows.first), rows.count, block, size_t(width), false);
    for (int i = 0; i < rows.count; ++i) {
        float* value = block + i * width;
        if (layer.value_bias) kernels_.add_to(value, layer.value_bias + first, width);
        const Slot slot = slot_of(run, rows.first + i);
        kernels_.store_value(value, first % size, width, kv, slot.page, first / size, slot.offset, slot.last_of_new_page);
    }
}

// Two panels of gate and up, which are 32 features: activated and quantised in place.
void Transformer::feed_forward(const Run& run, const Layer& layer, const Activations& in, Rows rows, int pair, int thread) const {
    float* gate = run.scratch.block[size_t(thread)].data();
    float* up = shape_.gated ? gate + kRowBlock * kGroup : gate;
    const int begin = 2 * pair, end = std::min(begin + 2, layer.up.panels()), feature = pair * kGroup;
    const int width = (end - begin) * kPanelRows, within = std::min(width, shape_.feed_forward - feature);
    const Activations from = in.from_row(rows.first);
    if (shape_.gated) kernels_.product(layer.gate, begin, end, from, rows.count, gate, kGroup, false);
    kernels_.product(layer.up, begin, end, from, rows.count, up, kGroup, false);
    for (int i = 0; i < rows.count && (layer.up_bias || layer.gate_bias); ++i) {
        if (layer.up_bias) kernels_.add_to(up + i * kGroup, layer.up_bias + feature, within);
        if (layer.gate_bias) kernels_.add_to(gate + i * kGroup, layer.gate_bias + feature, within);
    }
    const Activations out = run.inputs[0].feed_forward.from_row(rows.first);
    const float* times = shape_.gated ? up : nullptr;
    if (!quantised_in_place(layer.down)) {
        for (int i = 0; i < rows.count; ++i) {
            kernels_.activate(shape_.activation, gate + i * kGroup, times ? times + i * kGroup : nullptr, width);
            std::memcpy(out.from_row(i).floats + feature, gate + i * kGroup, size_t(width) * sizeof(float));
        }
    } else {
        kernels_.activate_group(shape_.activation, gate, times, rows.count, width, out.from_group(pair));
    }
}

void Transformer::add_product(const Run& run, const Matrix& matrix, const Activations& in, int thread, Cursor* cursors) const {
    float* to = run.branch ? run.branch : run.x;
    const size_t stride = size_t(hidden_stride_);
    run.share(thread, cursors, run.rows, matrix.panels(), run.chunk(matrix.panels()), [&](Rows rows, int begin, int end) {
        float* out = to + size_t(rows.first) * stride + size_t(begin) * kPanelRows;
        kernels_.product(matrix, begin, end, in.from_row(rows.first), rows.count, out, stride, !run.branch);
    });
}

void Transformer::layer(const Run& run, int index, int thread) const {
    const Layer& layer = layers_[size_t(index)];
    const Inputs& in = run.inputs[size_t(thread)];

    prepare(in.x, layer.before_attention, run.rows, Forms(layer.query, layer.key, layer.value), in);
    if (run.together) team_.barrier();
    const int keys = shape_.heads, values = keys + shape_.kv_heads;
    const int pieces = layer.value.panels() / value_panels();
    run.share(thread, run.cursors(index, 0), run.rows, values + pieces, 1, [&](Rows rows, int task, int) {
        if (task < keys)
            project_query(run, layer, in.normalised, rows, task);
        else if (task < values)
            project_key(run, index, in.normalised, rows, task - keys, thread);
        else
            project_value(run, index, in.normalised, rows, task - values, thread);
    });
    team_.barrier();
    run.share(thread, run.cursors(index, 1), 1, attention_tasks(run, index), 1,
              [&](Rows, int task, int) { attend(run, index, task, thread); });
    team_.barrier();
    quantise_rows(run, layer.output, shape_.queries(), in.attention, in);
    if (run.together) team_.barrier();
    add_product(run, layer.output, in.attention, thread, run.cursors(index, 2));
    team_.barrier();
    if (run.branch) absorb(run, in, layer.after_attention, layer.output_bias);

    prepare(in.x, layer.before_feed_forward, run.rows, shape_.gated ? Forms(layer.gate, layer.up) : Forms(layer.up), in);
    if (run.together) team_.barrier();
    const int pairs = (layer.up.panels() + 1) / 2;
    run.share(thread, run.cursors(index, 3), run.rows, pairs, run.chunk(pairs), [&](Rows rows, int begin, int end) {
        for (int pair = begin; pair < end; ++pair) feed_forward(run, layer, in.normalised, rows, pair, thread);
    });
    team_.barrier();
    const bool in_place = quantised_in_place(layer.down);
    if (!in_place) {
        quantise_rows(run, layer.down, shape_.feed_forward, in.feed_forward, in);
        if (run.together) team_.barrier();
    }
    add_product(run, layer.down, in_place ? run.inputs[0].feed_forward : in.feed_forward, thread, run.cursors(index, 4));
    team_.barrier();
    if (run.branch) absorb(run, in, layer.after_feed_forward, layer.down_bias);
}

void Transformer::head(const Run& run, int thread) const {
    const size_t stride = size_t(hidden_stride_);
    const Inputs& in = run.inputs[size_t(thread)];
    if (run.branch && run.together) team_.barrier();  // others' rows are read below
    for (int i = thread; i < run.wanted; i += run.threads)
        std::memcpy(run.chosen + i * stride, in.x + size_t(run.wanted_rows[i]) * stride, stride * sizeof(float));
    team_.barrier();
    prepare(run.chosen, final_norm_, run.wanted, run.encode ? Forms() : Forms(head_), in);
    if (run.encode) {
        if (!run.together && thread != 0) return;
        in.each_row(run.wanted, [&](int i) {
            std::memcpy(run.out + size_t(i) * shape_.hidden, in.normalised.from_row(i).floats,
                        size_t(shape_.hidden) * sizeof(float));
        });
        return;
    }
    if (run.together) team_.barrier();
    const size_t logits = size_t(logit_stride());
    run.share(thread, run.cursors(shape_.layers, 0), run.wanted, head_.panels(), run.chunk(head_.panels()), [&](Rows rows, int begin, int end) {
        float* out = run.out + size_t(rows.first) * logits + size_t(begin) * kPanelRows;
        kernels_.product(head_, begin, end, in.normalised.from_row(rows.first), rows.count, out, logits, false);
    });
}

bool Transformer::branches() const {
    const Layer& first = layers_.front();
    return shape_.norms != NormPlace::before || first.output_bias || first.down_bias;
}

void Transformer::forward(const int32_t* tokens, int rows, const std::vector<SpanView>& spans,
                          const int32_t* wanted_rows, int wanted, bool encode, float* out) {
    Scratch& scratch = *scratch_;
    const int queries = shape_.queries();
    const size_t turns = size_t(rows) * size_t(shape_.pairs());
    auto floats = [](Buffer<float>& buffer, size_t count) {
        if (buffer.size() < count) buffer.resize(count);
        return buffer.data();
    };
    const size_t residual = size_t(rows) * hidden_stride_;
    Run run{tokens, rows, spans, wanted_rows, wanted, encode, out, {},
            floats(scratch.x, residual),
            branches() ? floats(scratch.branch, residual) : nullptr,
            floats(scratch.query, size_t(rows) * queries),
            floats(scratch.chosen, size_t(wanted) * hidden_stride_),
            {floats(scratch.cosine, turns), floats(scratch.sine, turns)},
            {floats(scratch.window_cosine, turns), floats(scratch.window_sine, turns)},
            {}, rows > kMostOwnRows, crew_.threads(), scratch};

    for (size_t s = 0; s < spans.size(); ++s) run.span_of_row.insert(run.span_of_row.end(), size_t(spans[s].length), int(s));
    plan_attention(run);
    const bool wide = kernels_.widen != nullptr;
    const int inner = round_up(shape_.feed_forward, kGroup);
    const Activations normalised = scratch.normalised.reserve(rows, shape_.hidden, hidden_stride_, wide);
    const Activations attention = scratch.attention.reserve(rows, queries, queries, wide);
    const Activations feed_forward = scratch.feed_forward.reserve(rows, shape_.feed_forward, inner, wide);
    // Results are everybody's, what is quantised of them a thread's own.
    auto own = [&](ActivationBuffer& buffer, int size, const Activations& all) {
        Activations mine = buffer.reserve(rows, size, 0, wide);
        mine.floats = all.floats;
        mine.stride = all.stride;
        return mine;
    };
    for (int thread = 0; thread < run.threads; ++thread) {
        const size_t at = size_t(thread);
        floats(scratch.block[at], size_t(kRowBlock) * std::max(2 * kGroup, shape_.head_dim));
        if (run.together) {
            run.inputs.push_back({normalised, attention, feed_forward, run.x, thread, run.threads});
        } else {
            float* x = run.branch ? floats(scratch.own_x[at], residual) : run.x;
            const Activations read = thread == 0 ? feed_forward : own(scratch.own_feed_forward[at], shape_.feed_forward, feed_forward);
            run.inputs.push_back({scratch.own_normalised[at].reserve(rows, shape_.hidden, hidden_stride_, wide),
                                  own(scratch.own_attention[at], queries, attention), read, x, 0, 1});
        }
    }
    for (Cursor& cursor : scratch.cursors) cursor.next.store(0, std::memory_order_relaxed);

    const auto begin = std::chrono::steady_clock::now();
    team_.run(run.threads, [&](int thread) {
        embed(run, thread);
        turn(run, thread);
        team_.barrier();
        for (int index = 0; index < shape_.layers; ++index) layer(run, index, thread);
        if (wanted > 0) head(run, thread);
    });
    // While one thread is held up, all the others wait.
    const auto taken = std::chrono::steady_clock::now() - begin;
    crew_.record(run.threads > 1 ? double(team_.waited().count()) / (run.threads - 1) / double(taken.count()) : 0.0);
}

}  // namespace tokenworks
