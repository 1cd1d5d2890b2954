// Wide products (layout.h): as exact as activations of 15 bits, and what AMX is fastest with. Only the AMX path has them:
// on vectors alone two digits would take twice the time of one.
#pragma once
#include "layout.h"

namespace tokenworks::amx {

// From a q4 panel to a wide one, in place; `row_scales` are the panel's sixteen.
void widen(uint8_t* panel, int groups, float* row_scales);

// One row of `size` floats, a multiple of 32, to two digits.
void quantise_wide(const float* x, int size, const Activations& out);

// Kernels::product of a wide matrix.
void product_wide(const Matrix& m, int begin, int end, const Activations& in, int rows, float* out, size_t stride,
                  bool accumulate);

}  // namespace tokenworks::amx
