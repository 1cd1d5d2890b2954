// Products of many rows on the tile registers of Intel's AMX. The same bits as the AVX-512 path: a group's dot product
// is an exact integer either way, and the floats are added up in the same order.
#pragma once
#include "layout.h"

namespace tokenworks::amx {

// Whether the processor has tiles of int8 and bf16 and the system lets this process use them; asks the system the first time.
bool supported();

void product(const Matrix& m, int begin, int end, const Activations& in, int rows, float* out, size_t stride,
             bool accumulate);

}  // namespace tokenworks::amx
