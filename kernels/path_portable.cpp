#include "blocks.h"
#include "kernels.h"
#include "simd_portable.h"

namespace tokenworks::portable {
#include "kernels.inl"
#include "product.inl"
#include "attention.inl"
#include "decode.inl"
#include "sampling.inl"
#include "panels.inl"
static bool supported() { return true; }
}  // namespace tokenworks::portable

namespace tokenworks {
const Kernels kPortableKernels = {
    "portable",         portable::supported, portable::pack_panel, portable::product, portable::rms_norm, portable::layer_norm, portable::add_to,
    portable::quantise, nullptr, nullptr, portable::activate, portable::activate_group, portable::rotate,  portable::store_key, portable::store_value, portable::attend, portable::settle,
    portable::largest_logits, portable::weigh_logits};

const Kernels* const kAllKernels[] = {
#if defined(__x86_64__)
#ifndef TW_EMULATED  // nothing emulates tiles, nor products of bf16
    &kAmxKernels, &kAvx512Bf16Kernels,
#endif
    &kAvx512VnniKernels, &kAvx2Kernels,
#elif defined(__aarch64__)
    &kNeonI8mmKernels, &kNeonKernels,
#endif
    &kPortableKernels};
const int kNumKernels = sizeof kAllKernels / sizeof kAllKernels[0];
}  // namespace tokenworks
