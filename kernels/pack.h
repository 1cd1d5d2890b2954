// From a file's rows to panels.
#pragma once
#include <functional>
#include <optional>

#include "arena.h"
#include "kernels.h"
#include "source.h"
#include "team.h"

namespace tokenworks {

struct Tensor {  // as it lies in the file
    Source source;
    const uint8_t* raw;
    // Told which bytes [begin, end) will not be read again, part by part while packing goes on: a mapped file's pages
    // would otherwise stay beside what they became.
    std::function<void(size_t begin, size_t end)> release = [](size_t, size_t) {};
};

// What a matrix is to be packed as, if not as its source: its own format, where that is larger, is rounded to `format`.
struct Wanted {
    std::optional<Format> format = {};
    const float* importance = nullptr;  // of each input, see kernels.h
};

// What a matrix of this source and width is packed as: its own format, or a smaller one that is wanted.
Format format_for(Source source, int inputs, std::optional<Format> wanted);

// What a path holds groups of this format in: on one with wide products, pairs take the room of the minima.
Format held_in(const Kernels& kernels, Format format);

// `order[i]` is the source row that becomes row i, or null for the same order. Q4_0 becomes q4_centred, Q4_1 and Q4_K
// q4, and they keep their quants, as Q5_0 does in q6 and Q8_0, IQ4_NL and IQ4_XS in q8 (-128 aside, which no encoder
// emits); the others are rounded to q8 where whole groups allow it, else to bf16. Every path's kernels pack the same
// bytes.
// `before` is a matrix of this shape that is given up: its memory is used again where it is enough.
Matrix pack(const Kernels& kernels, Arena& arena, Team& team, const Tensor& tensor, int rows, int inputs,
            const int* order, const Wanted& wanted = {}, const Matrix& before = {});

}  // namespace tokenworks
