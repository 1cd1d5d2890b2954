// What one forward works on, and the buffers kept from one to the next.
#pragma once
#include <algorithm>
#include <atomic>
#include <vector>

#include "attention_plan.h"
#include "buffer.h"
#include "layout.h"
#include "team.h"
#include "transformer.h"

namespace tokenworks {

// Rows of a batch as input of a product, in one allocation per member.
struct ActivationBuffer {
    Buffer<int8_t> values, high, low;
    Buffer<float> scale, scaled_sum, floats, wide_scale;
    Buffer<int32_t> centre, wide_sums;

    Activations reserve(int rows, int size, int stride, bool wide) {
        const int groups = (size + kGroup - 1) / kGroup;
        const int tile_rows = std::min(rows, kTileRows), tiles = (rows + tile_rows - 1) / tile_rows;
        auto parts = [&](int count) { return size_t(tiles) * size_t(count) * size_t(tile_rows) + kTileRows; };
        auto grow = [](auto& buffer, size_t count) {
            if (buffer.size() < count) buffer.resize(count);
            return buffer.data();
        };
        Activations a{grow(values, parts(groups) * kGroup), grow(scale, parts(groups)), grow(centre, parts(groups)),
                      grow(scaled_sum, parts(groups)), grow(floats, size_t(rows) * size_t(stride)), groups, size_t(stride),
                      tile_rows};
        if (wide) {
            const size_t bytes = parts(a.pairs()) * 2 * kGroup;
            a.wide = {grow(high, bytes), grow(low, bytes), grow(wide_sums, parts(groups) * 4), grow(wide_scale, parts(a.blocks()))};
        }
        return a;
    }
};

// What the matrices that read a row of activations read of it, besides its floats.
struct Forms {
    bool groups = false, wide = false;

    template <typename... Matrices>
    explicit Forms(const Matrices&... matrices) {
        ((groups |= matrices.format != Format::bf16 && matrices.format != Format::q4_wide, wide |= matrices.format == Format::q4_wide), ...);
    }
};

// One forward's attention in all layers with the same window.
struct LayerAttention {
    int window;
    AttentionPlan plan{};
    Buffer<float> parts{};                         // by KV head, block, chunk and query
    std::vector<std::atomic<int>> chunks_done{};  // by KV head and block

    void prepare(AttentionPlan next, int kv_heads) {
        plan = std::move(next);
        if (!plan.split) return;
        if (parts.size() < plan.part_floats * size_t(kv_heads)) parts.resize(plan.part_floats * size_t(kv_heads));
        const size_t counters = plan.blocks.size() * size_t(kv_heads);
        if (chunks_done.size() < counters) chunks_done = std::vector<std::atomic<int>>(counters);
    }
};

struct Transformer::Scratch {
    std::vector<Cursor> cursors;
    ActivationBuffer normalised, attention, feed_forward;
    std::vector<ActivationBuffer> own_normalised, own_attention, own_feed_forward;
    std::vector<Buffer<float>> own_x, block, attention_scratch;
    Buffer<float> x, branch, query, cosine, sine, window_cosine, window_sine, chosen;
    std::vector<LayerAttention> attentions;  // one for each window that a layer has
};

constexpr int kOperations = 8;  // cursors per layer

constexpr int kRowBlock = 128;  // rows that a piece of work takes at once

// What one thread reads as inputs of products, and which rows of it that thread prepares: from `begin` to `end`, counted in
// `parts` of all rows. Prepared together, the buffers are everybody's and a barrier follows; alone, they are its own.
struct Transformer::Inputs {
    Activations normalised, attention, feed_forward;
    float* x;  // the residual: everybody's, or a copy of its own where it changes outside of products
    int part, parts;

    // The rows of this part: those that its thread begins with in `Run::share`, where there are enough of them; else whole tiles,
    // so that no two threads write one cache line.
    template <typename Work>
    void each_row(int rows, Work work) const {
        const int blocks = (rows + kRowBlock - 1) / kRowBlock, step = blocks >= parts ? kRowBlock : kTileRows;
        const int steps = (rows + step - 1) / step;
        auto first_of = [&](int p) { return std::min(rows, steps * p / parts * step); };
        for (int row = first_of(part); row < first_of(part + 1); ++row) work(row);
    }
};

struct Angles {
    float *cosine, *sine;
};

// What one forward works on; threads share it read-only, apart from the buffers it points to.
struct Transformer::Run {
    const int32_t* tokens;
    int rows;
    const std::vector<SpanView>& spans;
    const int32_t* wanted_rows;
    int wanted;
    bool encode;
    float* out;
    std::vector<int> span_of_row;
    float *x, *branch, *query, *chosen;
    Angles angles, window_angles;  // [rows, pairs]
    std::vector<Inputs> inputs;  // by thread
    bool together;
    int threads;
    Scratch& scratch;

    Cursor* cursors(int layer, int operation) const {
        return &scratch.cursors[(size_t(layer) * kOperations + operation) * scratch.block.size()];
    }
    int position(int row) const {  // in its sequence
        const SpanView& span = spans[size_t(span_of_row[size_t(row)])];
        return span.start + row - span.row;
    }
    // Items to take at once: few enough takes to be cheap, small enough pieces to balance.
    int chunk(int total) const { return std::max(1, total / (threads * 8)); }

    // Calls work(rows, begin, end) for pieces of `items` times `rows` until none is left. Rows come in blocks, and all
    // pieces of one block before the next: what its products read and write stays in a core's cache. Each thread begins
    // with a part of its own, the rows that it prepared, and then helps the others; `cursors` are one a thread.
    template <typename Work>
    void share(int thread, Cursor* cursors, int rows, int items, int chunk, Work work) const {
        const int pieces = (items + chunk - 1) / chunk, blocks = (rows + kRowBlock - 1) / kRowBlock;
        auto first_of = [&](int t) { return blocks >= threads ? blocks * t / threads * pieces : pieces * blocks * t / threads; };
        for (int i = 0; i < threads; ++i) {
            const int owner = (thread + i) % threads, begin = first_of(owner), end = first_of(owner + 1);
            for (int piece; (piece = begin + cursors[owner].next.fetch_add(1, std::memory_order_relaxed)) < end;) {
                const int row = piece / pieces * kRowBlock, item = piece % pieces * chunk;
                work(Rows{row, std::min(kRowBlock, rows - row)}, item, std::min(items, item + chunk));
            }
        }
    }
};

struct Transformer::Slot {
    int page, offset;
    bool last_of_new_page;  // the last token so far of a page that this forward begins
};

}  // namespace tokenworks
