#include "arm_features.h"
#include "blocks.h"
#include "kernels.h"
#include "simd_neon.h"

namespace tokenworks::neon {
#include "kernels.inl"
#include "product.inl"
#include "attention.inl"
#include "decode.inl"
#include "sampling.inl"
#include "panels.inl"
static bool supported() { return arm::has_dot_products(); }
}  // namespace tokenworks::neon

namespace tokenworks {
const Kernels kNeonKernels = {"neon",          neon::supported, neon::pack_panel, neon::product, neon::rms_norm, neon::layer_norm, neon::add_to, neon::quantise, nullptr, nullptr,
                              neon::activate, neon::activate_group, neon::rotate,    neon::store_key, neon::store_value, neon::attend, neon::settle,
                              neon::largest_logits, neon::weigh_logits};
}
