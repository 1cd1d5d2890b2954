// Rows of a file's tensors as floats, for the embedding: looked up as they are stored.
#pragma once
#include "source.h"

namespace tokenworks {

// `inputs` is a whole number of the source's blocks.
inline size_t row_bytes(Source source, int inputs) {
    return size_t(inputs / block_of(source).weights) * size_t(block_of(source).bytes);
}

// One row as floats: ggml's values, bit for bit.
void decode_row(Source source, const uint8_t* row, int inputs, float* out);

}  // namespace tokenworks
