#include "blocks.h"
#include "kernels.h"
#include "simd_avx2.h"

namespace tokenworks::avx2 {
#include "kernels.inl"
#include "product.inl"
#include "attention.inl"
#include "decode.inl"
#include "sampling.inl"
#include "panels.inl"
static bool supported() {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
}
}  // namespace tokenworks::avx2

namespace tokenworks {
const Kernels kAvx2Kernels = {"avx2",          avx2::supported, avx2::pack_panel, avx2::product, avx2::rms_norm, avx2::layer_norm, avx2::add_to, avx2::quantise, nullptr, nullptr,
                              avx2::activate, avx2::activate_group, avx2::rotate, avx2::store_key, avx2::store_value, avx2::attend, avx2::settle,
                              avx2::largest_logits, avx2::weigh_logits};
}
