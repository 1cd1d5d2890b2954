#include "arm_features.h"
#include "blocks.h"
#include "kernels.h"
#include "simd_neon_i8mm.h"

namespace tokenworks::neon_i8mm {
#include "kernels.inl"
#include "product.inl"
#include "attention.inl"
#include "decode.inl"
#include "sampling.inl"
#include "panels.inl"
static bool supported() { return arm::has_matrix_products() && arm::has_dot_products(); }
}  // namespace tokenworks::neon_i8mm

namespace tokenworks {
const Kernels kNeonI8mmKernels = {
    "neon-i8mm",           neon_i8mm::supported, neon_i8mm::pack_panel, neon_i8mm::product,   neon_i8mm::rms_norm,
    neon_i8mm::layer_norm, neon_i8mm::add_to,    neon_i8mm::quantise, nullptr, nullptr,  neon_i8mm::activate,
    neon_i8mm::activate_group, neon_i8mm::rotate,     neon_i8mm::store_key, neon_i8mm::store_value,   neon_i8mm::attend, neon_i8mm::settle,
    neon_i8mm::largest_logits, neon_i8mm::weigh_logits};
}
