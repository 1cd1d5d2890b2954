#include "blocks.h"
#include "kernels.h"
#include "product_amx.h"
#include "wide.h"
#include "simd_avx512.h"
#include "tiles.h"

namespace tokenworks::avx512vnni {
#include "kernels.inl"
#include "product.inl"
#include "attention.inl"
#include "decode.inl"
#include "sampling.inl"
#include "panels.inl"
static bool supported() {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vnni");
}
#ifndef TW_EMULATE_AVX512  // nothing emulates tiles, nor products of bf16
#include "attention_amx.inl"
#include "attention_bf16.inl"
#endif
}  // namespace tokenworks::avx512vnni

namespace tokenworks {
const Kernels kAvx512VnniKernels = {
    "avx512vnni",           avx512vnni::supported, avx512vnni::pack_panel, avx512vnni::product,       avx512vnni::rms_norm, avx512vnni::layer_norm, avx512vnni::add_to,
    avx512vnni::quantise, nullptr, nullptr, avx512vnni::activate, avx512vnni::activate_group, avx512vnni::rotate, avx512vnni::store_key, avx512vnni::store_value, avx512vnni::attend, avx512vnni::settle,
    avx512vnni::largest_logits, avx512vnni::weigh_logits};

#ifndef TW_EMULATE_AVX512
// All but attention of many rows as above.
const Kernels kAvx512Bf16Kernels = {
    "avx512bf16",           avx512vnni::has_pair_products, avx512vnni::pack_panel, avx512vnni::product,       avx512vnni::rms_norm, avx512vnni::layer_norm, avx512vnni::add_to,
    avx512vnni::quantise, nullptr, nullptr, avx512vnni::activate, avx512vnni::activate_group, avx512vnni::rotate, avx512vnni::store_key, avx512vnni::store_value, avx512vnni::attend_by_pairs, avx512vnni::settle,
    avx512vnni::largest_logits, avx512vnni::weigh_logits};

// All but products and attention of many rows as above.
const Kernels kAmxKernels = {
    "amx",                  amx::supported,       avx512vnni::pack_panel, amx::product,           avx512vnni::rms_norm, avx512vnni::layer_norm, avx512vnni::add_to,
    avx512vnni::quantise, amx::widen, amx::quantise_wide, avx512vnni::activate, avx512vnni::activate_group, avx512vnni::rotate, avx512vnni::store_key, avx512vnni::store_value, avx512vnni::attend_by_tiles, avx512vnni::settle,
    avx512vnni::largest_logits, avx512vnni::weigh_logits};
#endif
}
