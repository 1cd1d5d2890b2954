// What attention works on: pages of keys and values, queries, and the parts it adds up.
//
// A sequence's tokens come in *chunks* of 256, counted from its first token. Within a chunk a query's scores, weights
// and weighted values are added up in the order of tokens; chunks are then merged in their order. So a result does not
// depend on which queries share a tile, nor on which thread computes which chunk.
#pragma once
#include <cstddef>
#include <cstdint>

#include "layout.h"

namespace tokenworks {

constexpr int kChunkTokens = 256;
constexpr int kQueryBlock = 192;  // most queries of one call: pages are read as floats once for all of them

// KV pages of one layer. One KV head's part of a page: keys transposed [head_dim][16], then values [16][head_dim], fp16.
struct KeyValues {
    uint16_t* base;      // of this layer
    size_t page_stride;  // in fp16 elements, all KV heads of one page
    int head_dim;

    size_t head_stride() const { return size_t(2) * kPageTokens * head_dim; }
    uint16_t* keys(int page, int head) const {
        return base + page_stride * size_t(page) + head_stride() * size_t(head);
    }
    uint16_t* values(int page, int head) const { return keys(page, head) + size_t(kPageTokens) * head_dim; }
};

// One query vector to attend with: `head_dim` floats (already scaled) that see tokens first…last.
struct Query {
    const float* query;
    float* out;
    int first, last;
};

// What some chunks give for one query: `head_dim` sums of weighted values, then their largest score and the sum of
// weights, both sums relative to that score. Nothing of the chunks was seen if the sum of weights is 0.
constexpr int kPartExtra = 16;
constexpr size_t part_floats(int head_dim) { return size_t(head_dim) + kPartExtra; }

constexpr int kMostTileRows = 12;              // queries of a register tile, on any path
constexpr int kTileStride = kChunkTokens + 16;  // between rows of a tile's operand: not a power of two, for the cache

// Floats of scratch memory that one thread needs for `attend`.
constexpr size_t attention_scratch(int head_dim) {
    const size_t slabs = size_t(head_dim + kChunkTokens - 1) / kChunkTokens;
    return kTileStride * (kMostTileRows + slabs * kQueryBlock) + size_t(2) * kChunkTokens * head_dim +
           kQueryBlock * part_floats(head_dim);
}

}  // namespace tokenworks
