// What one forward works on, and the buffers kept from one to the next.
#pragma once
#include <algorithm>
#include <atomic>
#include <vector>

#include "attention_plan.h"
#include "layout.h"
#include "team.h"
#include "transformer.h"

namespace tokenworks {

// Rows of a batch as input of a product, in one allocation per member.
struct ActivationBuffer {
    std::vector<int8_t> values;
    std::vector<float> scale, scaled_sum, floats;
    std::vector<int32_t> sum;

    Activations reserve(int rows, int size, int stride) {
        const int groups = (size + kGroup - 1) / kGroup;
        const int tile_rows = std::min(rows, kTileRows), tiles = (rows + tile_rows - 1) / tile_rows;
        const size_t cells = size_t(tiles) * groups * tile_rows + kTileRows;
        if (values.size() < cells * kGroup) {
            values.resize(cells * kGroup);
            scale.resize(cells);
            scaled_sum.resize(cells);
            sum.resize(cells);
        }
        if (floats.size() < size_t(rows) * stride) floats.resize(size_t(rows) * stride);
        return {values.data(), scale.data(), sum.data(), scaled_sum.data(), floats.data(), groups, size_t(stride), tile_rows};
    }
};

// One forward's attention in all layers with the same window.
struct LayerAttention {
    int window;
    AttentionPlan plan{};
    std::vector<float> parts{};                    // by KV head, block, chunk and query
    std::vector<std::atomic<int>> chunks_done{};  // by KV head and block

    void prepare(AttentionPlan next, int kv_heads) {
        plan = std::move(next);
        if (!plan.split) return;
        if (parts.size() < plan.part_floats * size_t(kv_heads)) parts.resize(plan.part_floats * size_t(kv_heads));
        const size_t counters = plan.blocks.size() * size_t(kv_heads);
        if (chunks_done.size() < counters) chunks_done = std::vector<std::atomic<int>>(counters);
    }
};

// The first whole cache line of a buffer, so that no vector lies across two.
inline float* aligned(std::vector<float>& buffer) {
    return reinterpret_cast<float*>((reinterpret_cast<uintptr_t>(buffer.data()) + 63) & ~uintptr_t(63));
}

struct Transformer::Scratch {
    std::vector<Cursor> cursors;
    ActivationBuffer normalised, attention, feed_forward;
    std::vector<ActivationBuffer> own_normalised, own_attention;
    std::vector<std::vector<float>> own_x, block, attention_scratch;
    std::vector<float> x, branch, query, cosine, sine, window_cosine, window_sine, chosen;
    std::vector<LayerAttention> attentions;  // one for each window that a layer has
};

constexpr int kRowBlock = 64;   // rows that a task takes at once

constexpr int kOperations = 8;  // cursors per layer

// What one thread reads as inputs of products, and which rows of it that thread prepares: every `step`-th piece from
// `first`. Prepared together, the buffers are everybody's and a barrier follows; alone, they are its own.
struct Transformer::Inputs {
    Activations normalised, attention;
    float* x;  // the residual: everybody's, or a copy of its own where it changes outside of products
    int first, step;
    int piece;  // rows; whole tiles where there are enough, so that threads do not write to the same cache lines

    template <typename Work>
    void each_row(int rows, Work work) const {
        for (int begin = first * piece; begin < rows; begin += step * piece)
            for (int row = begin; row < std::min(rows, begin + piece); ++row) work(row);
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
    Activations feed_forward;
    std::vector<Inputs> inputs;  // by thread
    bool together;
    int threads;
    Scratch& scratch;

    Cursor& cursor(int layer, int operation) const { return scratch.cursors[size_t(layer) * kOperations + operation]; }
    int position(int row) const {  // in its sequence
        const SpanView& span = spans[size_t(span_of_row[size_t(row)])];
        return span.start + row - span.row;
    }
    // Items to take at once: few enough takes to be cheap, small enough pieces to balance.
    int chunk(int total) const { return std::max(1, total / (threads * 8)); }

    // Calls work(rows, begin, end) for pieces of `items` times `rows` until none is left. Rows come in blocks, and all
    // pieces of one block before the next: what its products read and write stays in a core's cache.
    template <typename Work>
    void share(Cursor& cursor, int rows, int items, int chunk, Work work) const {
        const int pieces = (items + chunk - 1) / chunk, blocks = (rows + kRowBlock - 1) / kRowBlock;
        for (int piece; (piece = cursor.next.fetch_add(1, std::memory_order_relaxed)) < pieces * blocks;) {
            const int first = piece / pieces * kRowBlock, begin = piece % pieces * chunk;
            work(Rows{first, std::min(kRowBlock, rows - first)}, begin, std::min(items, begin + chunk));
        }
    }
};

struct Transformer::Slot {
    int page, offset;
    bool last_of_new_page;  // the last token so far of a page that this forward begins
};

}  // namespace tokenworks
