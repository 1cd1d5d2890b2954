// From GGUF's rows to panels.
#pragma once
#include <cstdint>
#include <vector>

#include "layout.h"
#include "team.h"

namespace tokenworks {

enum class Source { f32, f16, bf16, q8_0, q4_0, q4_1 };  // GGUF encodings, row by row

size_t row_bytes(Source source, int inputs);

// One row of a source tensor as floats.
void decode_row(Source source, const uint8_t* row, int inputs, float* out);

// Memory for weights, never freed piece by piece: large blocks that ask for huge pages, since weights are
// streamed and TLB misses would show.
class Arena {
public:
    Arena() = default;
    ~Arena();
    Arena(const Arena&) = delete;
    Arena& operator=(const Arena&) = delete;
    uint8_t* allocate(size_t bytes);  // zeroed, aligned to 64 bytes; throws std::bad_alloc
    size_t used() const { return used_; }

private:
    struct Block {
        uint8_t* data;
        size_t bytes;
    };
    std::vector<Block> blocks_;
    size_t left_ = 0;  // at the end of the last block
    size_t used_ = 0;
};

// `order[i]` is the source row that becomes row i, or null for the same order. Q4_0 and Q4_1 become q4 with exactly
// the same values, Q8_0 becomes q8 (likewise, -128 aside, which no encoder emits); floats become q8 where whole
// groups allow it, else bf16.
Matrix pack(Arena& arena, Team& team, Source source, const uint8_t* raw, int rows, int inputs, const int* order);

}  // namespace tokenworks
