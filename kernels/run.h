// What one forward works on, and the buffers kept from one to the next.
#pragma once
#include <algorithm>
#include <atomic>
#include <vector>

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
        rows = (rows + kTileRows - 1) / kTileRows * kTileRows;
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

struct Transformer::Scratch {
    std::vector<Cursor> cursors;
    ActivationBuffer normalised, attention, feed_forward;
    std::vector<ActivationBuffer> own_normalised, own_attention;
    std::vector<std::vector<float>> own_x, block, scores;
    std::vector<float> x, branch, query, cosine, sine, window_cosine, window_sine, chosen;
};

constexpr int kOperations = 8;  // cursors per layer

// What one thread reads as inputs of products, and which rows of it that thread prepares: every `step`-th from
// `first`. Prepared together, the buffers are everybody's and a barrier follows; alone, they are its own.
struct Transformer::Inputs {
    Activations normalised, attention;
    float* x;  // the residual: everybody's, or a copy of its own where it changes outside of products
    int first, step;
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
    std::vector<int> attention_begin;  // first attention task of each span, then their total
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

    template <typename Work>
    void share(Cursor& cursor, int total, int chunk, Work work) const {
        for (int begin; (begin = cursor.next.fetch_add(chunk, std::memory_order_relaxed)) < total;)
            work(begin, std::min(total, begin + chunk));
    }
};

struct Transformer::Slot {
    int page, offset;
};

}  // namespace tokenworks
