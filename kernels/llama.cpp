#include "llama.h"

#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <new>
#include <stdexcept>

namespace tokenworks {

namespace {

constexpr int kOperations = 8;   // cursors per layer
constexpr int kRowBlock = 32;    // rows whose gate and up products stay in a core's cache
constexpr int kTogetherFrom = 3;  // fewer rows are normalised by every thread for itself: cheaper than a barrier

int round_up(int x, int multiple) { return (x + multiple - 1) / multiple * multiple; }

// Rows of a batch as input of a product, in one allocation per member.
struct ActivationBuffer {
    std::vector<int8_t> values;
    std::vector<float> scale, scaled_sum, floats;
    std::vector<int32_t> sum;

    Activations reserve(int rows, int size, int stride) {
        const int groups = (size + kGroup - 1) / kGroup;
        const size_t cells = size_t(rows) * groups;
        if (values.size() < cells * kGroup) {
            values.resize(cells * kGroup);
            scale.resize(cells);
            scaled_sum.resize(cells);
            sum.resize(cells);
        }
        if (floats.size() < size_t(rows) * stride) floats.resize(size_t(rows) * stride);
        return {values.data(), scale.data(), sum.data(), scaled_sum.data(), floats.data(), groups, size_t(stride)};
    }
};

// GGUF interleaves the two halves of each rotated pair (2i, 2i+1). We rotate (i, i + half), which is friendlier to
// vectors, so the rows of every head are reordered; queries and keys alike, so that their products stay.
std::vector<int> rotary_order(int heads, int head_dim, int pairs) {
    std::vector<int> order(size_t(heads) * head_dim);
    for (int h = 0; h < heads; ++h)
        for (int i = 0; i < head_dim; ++i) {
            const int from = i < pairs ? 2 * i : i < 2 * pairs ? 2 * (i - pairs) + 1 : i;
            order[size_t(h) * head_dim + i] = h * head_dim + from;
        }
    return order;
}

}  // namespace

// What one thread reads as inputs of products, and which rows of it that thread prepares: every `step`-th from
// `first`. Prepared together, the buffers are everybody's and a barrier follows; alone, they are its own.
struct Llama::Inputs {
    Activations normalised, attention;
    int first, step;
};

struct Llama::Scratch {
    std::vector<Cursor> cursors;
    ActivationBuffer normalised, attention, feed_forward;
    std::vector<ActivationBuffer> own_normalised, own_attention;
    std::vector<std::vector<float>> block, scores;
    std::vector<float> x, query, cosine, sine, chosen;
};

// What one forward works on; threads share it read-only, apart from the buffers it points to.
struct Llama::Run {
    const int32_t* tokens;
    int rows;
    const std::vector<SpanView>& spans;
    const int32_t* logit_rows;
    int wanted;
    float* logits;
    std::vector<int> span_of_row;
    std::vector<int> attention_begin;  // first attention task of each span, then their total
    float *x, *query, *cosine, *sine, *chosen;
    Activations feed_forward;
    std::vector<Inputs> inputs;  // by thread
    bool together;
    int threads;
    Scratch& scratch;

    Cursor& cursor(int layer, int operation) const { return scratch.cursors[size_t(layer) * kOperations + operation]; }
    // Items to take at once: few enough takes to be cheap, small enough pieces to balance.
    int chunk(int total) const { return std::max(1, total / (threads * 8)); }

    template <typename Work>
    void share(Cursor& cursor, int total, int chunk, Work work) const {
        for (int begin; (begin = cursor.next.fetch_add(chunk, std::memory_order_relaxed)) < total;)
            work(begin, std::min(total, begin + chunk));
    }
};

struct Llama::Slot {
    int page, offset;
};

Llama::Slot Llama::slot_of(const Run& run, int row) {
    const SpanView& span = run.spans[size_t(run.span_of_row[size_t(row)])];
    const int position = span.start + row - span.row;
    return {span.pages[position / kPageTokens], position % kPageTokens};
}

Llama::Llama(const Kernels& kernels, int threads, Shape shape)
    : kernels_(kernels),
      shape_(std::move(shape)),
      hidden_stride_(round_up(shape_.hidden, kPanelRows)),
      team_(threads),
      crew_(threads),
      layers_(size_t(shape_.layers)),
      scratch_(std::make_unique<Scratch>()) {
    if (shape_.head_dim % kPanelRows != 0) throw std::invalid_argument("head_dim is not a multiple of 16");
    if (shape_.heads % shape_.kv_heads != 0) throw std::invalid_argument("heads is not a multiple of kv_heads");
    if (2 * int(shape_.inverse_frequencies.size()) > shape_.head_dim)
        throw std::invalid_argument("more rotated dimensions than head_dim");
    scratch_->cursors = std::vector<Cursor>(size_t(shape_.layers + 1) * kOperations);
    scratch_->own_normalised.resize(size_t(threads));
    scratch_->own_attention.resize(size_t(threads));
    scratch_->block.resize(size_t(threads));
    scratch_->scores.resize(size_t(threads));
}

Llama::~Llama() {
    if (kv_) munmap(kv_, kv_bytes_);
}

const float* Llama::copy_floats(const float* values, int count) {
    auto* copy = reinterpret_cast<float*>(arena_.allocate(size_t(count) * sizeof(float)));
    std::memcpy(copy, values, size_t(count) * sizeof(float));
    return copy;
}

void Llama::set_embedding(Source source, const uint8_t* raw) {
    embedding_source_ = source;
    embedding_ = raw;
}

void Llama::set_head(Source source, const uint8_t* raw) {
    head_ = pack(arena_, team_, source, raw, shape_.vocabulary, shape_.hidden, nullptr);
}

void Llama::set_final_norm(const float* weight) { final_norm_ = copy_floats(weight, shape_.hidden); }

void Llama::set_norms(int layer, const float* attention, const float* feed_forward) {
    layers_[size_t(layer)].attention_norm = copy_floats(attention, shape_.hidden);
    layers_[size_t(layer)].feed_forward_norm = copy_floats(feed_forward, shape_.hidden);
}

void Llama::set_matrix(int index, char name, Source source, const uint8_t* raw) {
    Layer& layer = layers_[size_t(index)];
    const int pairs = int(shape_.inverse_frequencies.size());
    const int queries = shape_.heads * shape_.head_dim, keys = shape_.kv_heads * shape_.head_dim;
    auto packed = [&](int rows, int inputs, const int* order = nullptr) {
        return pack(arena_, team_, source, raw, rows, inputs, order);
    };
    switch (name) {
        case 'q': layer.query = packed(queries, shape_.hidden, rotary_order(shape_.heads, shape_.head_dim, pairs).data()); break;
        case 'k': layer.key = packed(keys, shape_.hidden, rotary_order(shape_.kv_heads, shape_.head_dim, pairs).data()); break;
        case 'v': layer.value = packed(keys, shape_.hidden); break;
        case 'o': layer.output = packed(shape_.hidden, queries); break;
        case 'g': layer.gate = packed(shape_.feed_forward, shape_.hidden); break;
        case 'u': layer.up = packed(shape_.feed_forward, shape_.hidden); break;
        case 'd': layer.down = packed(shape_.hidden, shape_.feed_forward); break;
        default: throw std::invalid_argument("unknown matrix name");
    }
}

size_t Llama::page_bytes() const {
    return size_t(shape_.layers) * shape_.kv_heads * 2 * kPageTokens * shape_.head_dim * sizeof(uint16_t);
}

void Llama::allocate(int pages) {
    if (kv_) throw std::logic_error("pages are allocated already");
    kv_bytes_ = std::max<size_t>(1, page_bytes() * size_t(pages));
    void* p = mmap(nullptr, kv_bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) throw std::bad_alloc();
    kv_ = static_cast<uint16_t*>(p);
    pages_ = pages;
}

KeyValues Llama::key_values(int layer) const {
    const size_t stride = page_bytes() / sizeof(uint16_t) / size_t(shape_.layers);
    return {kv_ + stride * size_t(pages_) * size_t(layer), stride, shape_.head_dim};
}

void Llama::embed(const Run& run, int thread) const {
    const size_t bytes = row_bytes(embedding_source_, shape_.hidden), pairs = shape_.inverse_frequencies.size();
    for (int row = thread; row < run.rows; row += run.threads) {
        const uint8_t* from = embedding_ + bytes * size_t(run.tokens[row]);
        decode_row(embedding_source_, from, shape_.hidden, run.x + size_t(row) * hidden_stride_);
        const SpanView& span = run.spans[size_t(run.span_of_row[size_t(row)])];
        const double position = span.start + row - span.row;
        for (size_t i = 0; i < pairs; ++i) {
            const double angle = position * double(shape_.inverse_frequencies[i]);
            run.cosine[size_t(row) * pairs + i] = float(std::cos(angle));
            run.sine[size_t(row) * pairs + i] = float(std::sin(angle));
        }
    }
}

void Llama::normalise(const float* x, const float* weight, int rows, const Inputs& in) const {
    for (int row = in.first; row < rows; row += in.step) {
        const Activations out = in.normalised.from_row(row);
        kernels_.rms_norm(x + size_t(row) * hidden_stride_, weight, shape_.rms_epsilon, shape_.hidden, out.floats);
        if (shape_.hidden % kGroup == 0) kernels_.quantise(out.floats, shape_.hidden, out);
    }
}

void Llama::quantise_attention(const Run& run, const Inputs& in) const {
    const int size = shape_.heads * shape_.head_dim;
    if (size % kGroup != 0) return;  // the product is bf16 then and reads floats
    for (int row = in.first; row < run.rows; row += in.step)
        kernels_.quantise(in.attention.floats + size_t(row) * size, size, in.attention.from_row(row));
}

void Llama::project_query(const Run& run, const Layer& layer, const Activations& in, int head) const {
    const int size = shape_.head_dim, panels = size / kPanelRows, pairs = int(shape_.inverse_frequencies.size());
    const size_t stride = size_t(shape_.heads) * size;
    float* out = run.query + size_t(head) * size;
    kernels_.product(layer.query, head * panels, (head + 1) * panels, in, run.rows, out, stride, false);
    const float scale = 1.0f / std::sqrt(float(size));
    for (int row = 0; row < run.rows; ++row) {
        float* query = out + size_t(row) * stride;
        kernels_.rotate(query, run.cosine + size_t(row) * pairs, run.sine + size_t(row) * pairs, pairs);
        for (int i = 0; i < size; ++i) query[i] *= scale;
    }
}

void Llama::project_key(const Run& run, int index, const Activations& in, int head, int thread) const {
    const int size = shape_.head_dim, panels = size / kPanelRows, pairs = int(shape_.inverse_frequencies.size());
    const KeyValues kv = key_values(index);
    float* block = run.scratch.block[size_t(thread)].data();
    for (int first = 0; first < run.rows; first += kRowBlock) {
        const int count = std::min(kRowBlock, run.rows - first);
        kernels_.product(layers_[size_t(index)].key, head * panels, (head + 1) * panels, in.from_row(first), count,
                         block, size_t(size), false);
        for (int i = 0; i < count; ++i) {
            const int row = first + i;
            float* key = block + size_t(i) * size;
            kernels_.rotate(key, run.cosine + size_t(row) * pairs, run.sine + size_t(row) * pairs, pairs);
            const Slot slot = slot_of(run, row);
            uint16_t* out = kv.keys(slot.page, head) + slot.offset;
            uint16_t half[kPanelRows];
            for (int d = 0; d < size; d += kPanelRows) {
                kernels_.to_half(key + d, half, kPanelRows);
                for (int j = 0; j < kPanelRows; ++j) out[size_t(d + j) * kPageTokens] = half[j];
            }
        }
    }
}

void Llama::project_value(const Run& run, int index, const Activations& in, int panel, int thread) const {
    const KeyValues kv = key_values(index);
    const int size = shape_.head_dim, head = panel * kPanelRows / size, offset = panel * kPanelRows % size;
    float* block = run.scratch.block[size_t(thread)].data();
    for (int first = 0; first < run.rows; first += kRowBlock) {
        const int count = std::min(kRowBlock, run.rows - first);
        kernels_.product(layers_[size_t(index)].value, panel, panel + 1, in.from_row(first), count, block, kPanelRows,
                         false);
        for (int i = 0; i < count; ++i) {
            const Slot slot = slot_of(run, first + i);
            uint16_t* out = kv.values(slot.page, head) + size_t(slot.offset) * size + offset;
            kernels_.to_half(block + i * kPanelRows, out, kPanelRows);
        }
    }
}

// A task is up to kQueryTile (row, query head) pairs of one span and KV head.
void Llama::attend(const Run& run, int index, int task, int thread) const {
    const auto& begins = run.attention_begin;
    const size_t of_span = size_t(std::upper_bound(begins.begin(), begins.end(), task) - begins.begin()) - 1;
    const SpanView& span = run.spans[of_span];
    const int group = shape_.heads / shape_.kv_heads, size = shape_.head_dim;
    const int tiles = (span.length * group + kQueryTile - 1) / kQueryTile;
    const int local = task - begins[of_span], kv_head = local / tiles, first = local % tiles * kQueryTile;
    const int count = std::min(kQueryTile, span.length * group - first);

    Query queries[kQueryTile];
    for (int i = 0; i < count; ++i) {
        const int row = (first + i) / group, head = kv_head * group + (first + i) % group;
        const size_t at = (size_t(span.row + row) * shape_.heads + head) * size;
        queries[i] = {run.query + at, run.inputs[0].attention.floats + at, span.start + row};
    }
    kernels_.attend(queries, count, key_values(index), kv_head, span.pages, run.scratch.scores[size_t(thread)].data());
}

// A task is 32 features: two panels of gate and up, activated and quantised in place.
void Llama::feed_forward(const Run& run, const Layer& layer, const Activations& in, int task, int thread) const {
    float* gate = run.scratch.block[size_t(thread)].data();
    float* up = gate + kRowBlock * kGroup;
    const int begin = 2 * task, end = std::min(begin + 2, layer.gate.panels());
    const int width = (end - begin) * kPanelRows;
    for (int first = 0; first < run.rows; first += kRowBlock) {
        const int count = std::min(kRowBlock, run.rows - first);
        kernels_.product(layer.gate, begin, end, in.from_row(first), count, gate, kGroup, false);
        kernels_.product(layer.up, begin, end, in.from_row(first), count, up, kGroup, false);
        for (int i = 0; i < count; ++i) {
            kernels_.silu_multiply(gate + i * kGroup, up + i * kGroup, width);
            const Activations out = run.feed_forward.from_row(first + i);
            if (layer.down.format == Format::bf16)
                std::memcpy(out.floats + size_t(task) * kGroup, gate + i * kGroup, size_t(width) * sizeof(float));
            else
                kernels_.quantise(gate + i * kGroup, kGroup, out.from_group(task));
        }
    }
}

void Llama::add_product(const Run& run, const Matrix& matrix, const Activations& in, Cursor& cursor) const {
    run.share(cursor, matrix.panels(), run.chunk(matrix.panels()), [&](int begin, int end) {
        float* out = run.x + size_t(begin) * kPanelRows;
        kernels_.product(matrix, begin, end, in, run.rows, out, size_t(hidden_stride_), true);
    });
}

void Llama::layer(const Run& run, int index, int thread) const {
    const Layer& layer = layers_[size_t(index)];
    const Inputs& in = run.inputs[size_t(thread)];

    normalise(run.x, layer.attention_norm, run.rows, in);
    if (run.together) team_.barrier();
    const int keys = shape_.heads, values = keys + shape_.kv_heads;
    run.share(run.cursor(index, 0), values + layer.value.panels(), 1, [&](int task, int) {
        if (task < keys)
            project_query(run, layer, in.normalised, task);
        else if (task < values)
            project_key(run, index, in.normalised, task - keys, thread);
        else
            project_value(run, index, in.normalised, task - values, thread);
    });
    team_.barrier();
    run.share(run.cursor(index, 1), run.attention_begin.back(), 1,
              [&](int task, int) { attend(run, index, task, thread); });
    team_.barrier();
    quantise_attention(run, in);
    if (run.together) team_.barrier();
    add_product(run, layer.output, in.attention, run.cursor(index, 2));
    team_.barrier();

    normalise(run.x, layer.feed_forward_norm, run.rows, in);
    if (run.together) team_.barrier();
    const int tasks = (layer.gate.panels() + 1) / 2;
    run.share(run.cursor(index, 3), tasks, run.chunk(tasks), [&](int begin, int end) {
        for (int task = begin; task < end; ++task) feed_forward(run, layer, in.normalised, task, thread);
    });
    team_.barrier();
    add_product(run, layer.down, run.feed_forward, run.cursor(index, 4));
    team_.barrier();
}

void Llama::head(const Run& run, int thread) const {
    const size_t stride = size_t(hidden_stride_);
    for (int i = thread; i < run.wanted; i += run.threads)
        std::memcpy(run.chosen + i * stride, run.x + size_t(run.logit_rows[i]) * stride, stride * sizeof(float));
    team_.barrier();
    const Inputs& in = run.inputs[size_t(thread)];
    normalise(run.chosen, final_norm_, run.wanted, in);
    if (run.together) team_.barrier();
    run.share(run.cursor(shape_.layers, 0), head_.panels(), run.chunk(head_.panels()), [&](int begin, int end) {
        float* out = run.logits + size_t(begin) * kPanelRows;
        kernels_.product(head_, begin, end, in.normalised, run.wanted, out, size_t(logit_stride()), false);
    });
}

void Llama::forward(const int32_t* tokens, int rows, const std::vector<SpanView>& spans, const int32_t* logit_rows,
                    int wanted, float* logits) {
    Scratch& scratch = *scratch_;
    const int queries = shape_.heads * shape_.head_dim, pairs = int(shape_.inverse_frequencies.size());
    auto floats = [](std::vector<float>& buffer, size_t count) {
        if (buffer.size() < count) buffer.resize(count);
        return buffer.data();
    };
    Run run{tokens, rows, spans, logit_rows, wanted, logits, {}, {0},
            floats(scratch.x, size_t(rows) * hidden_stride_),
            floats(scratch.query, size_t(rows) * queries),
            floats(scratch.cosine, size_t(rows) * pairs),
            floats(scratch.sine, size_t(rows) * pairs),
            floats(scratch.chosen, size_t(wanted) * hidden_stride_),
            scratch.feed_forward.reserve(rows, shape_.feed_forward, round_up(shape_.feed_forward, kGroup)),
            {}, rows >= kTogetherFrom, crew_.threads(), scratch};

    int most_tokens = 0;
    for (size_t s = 0; s < spans.size(); ++s) {
        const int pairs_of_span = spans[s].length * (shape_.heads / shape_.kv_heads);
        const int tiles = (pairs_of_span + kQueryTile - 1) / kQueryTile;
        run.attention_begin.push_back(run.attention_begin.back() + tiles * shape_.kv_heads);
        run.span_of_row.insert(run.span_of_row.end(), size_t(spans[s].length), int(s));
        most_tokens = std::max(most_tokens, spans[s].start + spans[s].length);
    }
    const Activations normalised = scratch.normalised.reserve(rows, shape_.hidden, hidden_stride_);
    const Activations attention = scratch.attention.reserve(rows, queries, queries);
    for (int thread = 0; thread < run.threads; ++thread) {
        floats(scratch.scores[size_t(thread)], size_t(kQueryTile) * round_up(most_tokens, kPageTokens));
        floats(scratch.block[size_t(thread)], size_t(kRowBlock) * std::max(2 * kGroup, shape_.head_dim));
        if (run.together) {
            run.inputs.push_back({normalised, attention, thread, run.threads});
        } else {
            Activations own = scratch.own_attention[size_t(thread)].reserve(rows, queries, 0);
            own.floats = attention.floats;  // attention's result is everybody's, its int8 form our own
            own.stride = attention.stride;
            run.inputs.push_back({scratch.own_normalised[size_t(thread)].reserve(rows, shape_.hidden, hidden_stride_),
                                  own, 0, 1});
        }
    }
    for (Cursor& cursor : scratch.cursors) cursor.next.store(0, std::memory_order_relaxed);

    const auto begin = std::chrono::steady_clock::now();
    team_.run(run.threads, [&](int thread) {
        embed(run, thread);
        team_.barrier();
        for (int index = 0; index < shape_.layers; ++index) layer(run, index, thread);
        if (wanted > 0) head(run, thread);
    });
    // While one thread is held up, all the others wait.
    const auto taken = std::chrono::steady_clock::now() - begin;
    crew_.record(run.threads > 1 ? double(team_.waited().count()) / (run.threads - 1) / double(taken.count()) : 0.0);
}

}  // namespace tokenworks
