// What attention works on: pages of keys and values, queries, and the parts it adds up.
//
// A sequence's tokens come in *chunks* of 256, counted from its first token; chunks are computed each for itself and
// merged in their order. Within a chunk, products are added up as the tile instruction TDPBF16PS does (Intel's manual):
// in groups of up to 32 (dimensions of a score, the 16 tokens of a page of values), of which the even and the odd places
// are two chains from 0; a group's two chains are added to each other, then to the sum. Factors are bf16 of at least 2^-50
// or 0: their products are exact in float32 and no sum is subnormal, so that every processor computes the same bits.
//
// Where pages hold int8, their codes are such factors as they are. The scale of a token's key multiplies its scores once
// they are added up; that of its value multiplies its weights before these are rounded to bf16, and is at least 2^-57 or 0.
//
// So a result does not depend on which queries share a tile, nor on which thread computes which chunk.
#pragma once
#include <cstddef>
#include <cstdint>

#include "pages.h"

namespace tokenworks {

constexpr int kChunkTokens = 256;
constexpr int kQueryBlock = 192;  // most queries of one call: pages are read as floats once for all of them

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

constexpr int kMostTileRows = 16;              // queries of a tile, on any path
constexpr int kTileStride = kChunkTokens + 16;  // between rows of a tile's operand: not a power of two, for the cache
constexpr int kDotGroup = 32;                   // dimensions of a score that are added up before they join its sum

constexpr float kLeastFactor = 0x1p-50f;
constexpr float kLog2E = 1.44269504f;  // weights are powers of two

// Floats of scratch memory that one thread needs for `attend`.
constexpr size_t attention_scratch(int head_dim) {
    const size_t slabs = size_t(head_dim + kChunkTokens - 1) / kChunkTokens;
    return kTileStride * (kMostTileRows + slabs * kQueryBlock) + size_t(2) * kChunkTokens * head_dim +
           kQueryBlock * part_floats(head_dim);
}

}  // namespace tokenworks
