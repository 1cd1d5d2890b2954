// Sixteen-lane arithmetic on Arm's Advanced SIMD: four registers of four lanes. Products of bytes, which optional
// instructions make, are in the headers that include this one.
#pragma once
#include <arm_neon.h>

#include "halves.h"
#include "layout.h"

namespace tokenworks::neon_lanes {

constexpr int kSums = 6, kQueryRows = 6;  // attention: sums that registers hold, rows of its widest tile
constexpr int kRowTile = 4;  // activation rows per register tile: 16 of the 32 registers hold their sums
constexpr int kRowsAtOnce = kRowTile;

struct Floats { float32x4_t part[4]; };
struct Ints { int32x4_t part[4]; };

#define TW_PARTS(type, expression)                             \
    type result;                                               \
    for (int i = 0; i < 4; ++i) result.part[i] = (expression); \
    return result

TW_INLINE Floats splat(float x) { TW_PARTS(Floats, vdupq_n_f32(x)); }
TW_INLINE Floats load(const float* p) { TW_PARTS(Floats, vld1q_f32(p + 4 * i)); }
TW_INLINE void store(float* p, Floats v) { for (int i = 0; i < 4; ++i) vst1q_f32(p + 4 * i, v.part[i]); }
TW_INLINE Floats add(Floats a, Floats b) { TW_PARTS(Floats, vaddq_f32(a.part[i], b.part[i])); }
TW_INLINE Floats subtract(Floats a, Floats b) { TW_PARTS(Floats, vsubq_f32(a.part[i], b.part[i])); }
TW_INLINE Floats multiply(Floats a, Floats b) { TW_PARTS(Floats, vmulq_f32(a.part[i], b.part[i])); }
TW_INLINE Floats divide(Floats a, Floats b) { TW_PARTS(Floats, vdivq_f32(a.part[i], b.part[i])); }
TW_INLINE Floats maximum(Floats a, Floats b) { TW_PARTS(Floats, vmaxq_f32(a.part[i], b.part[i])); }
TW_INLINE Floats minimum(Floats a, Floats b) { TW_PARTS(Floats, vminq_f32(a.part[i], b.part[i])); }
TW_INLINE Floats fused(Floats a, Floats b, Floats c) { TW_PARTS(Floats, vfmaq_f32(c.part[i], a.part[i], b.part[i])); }
TW_INLINE Floats numbers_only(Floats a) {
    TW_PARTS(Floats, vreinterpretq_f32_u32(
        vandq_u32(vreinterpretq_u32_f32(a.part[i]), vceqq_f32(a.part[i], a.part[i]))));
}
TW_INLINE Floats absolute(Floats a) { TW_PARTS(Floats, vabsq_f32(a.part[i])); }
TW_INLINE Floats zero_below(Floats v, float least) {
    TW_PARTS(Floats, vreinterpretq_f32_u32(
        vbicq_u32(vreinterpretq_u32_f32(v.part[i]), vcltq_f32(vabsq_f32(v.part[i]), vdupq_n_f32(least)))));
}
TW_INLINE Ints load_bytes(const int8_t* p) {
    const int16x8_t low = vmovl_s8(vld1_s8(p)), high = vmovl_s8(vld1_s8(p + 8));
    return {{vmovl_s16(vget_low_s16(low)), vmovl_s16(vget_high_s16(low)), vmovl_s16(vget_low_s16(high)),
             vmovl_s16(vget_high_s16(high))}};
}
TW_INLINE Floats to_floats(Ints a) { TW_PARTS(Floats, vcvtq_f32_s32(a.part[i])); }
TW_INLINE Ints round_to_ints(Floats a) { TW_PARTS(Ints, vcvtnq_s32_f32(a.part[i])); }
TW_INLINE Floats load_half(const uint16_t* p) {
    TW_PARTS(Floats, vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p + 4 * i))));
}
TW_INLINE void store_half(uint16_t* p, Floats v) {
    for (int i = 0; i < 4; ++i) vst1_u16(p + 4 * i, vreinterpret_u16_f16(vcvt_f16_f32(v.part[i])));
}
TW_INLINE Floats load_bf16(const uint16_t* p) {
    TW_PARTS(Floats, vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p + 4 * i), 16)));
}
TW_INLINE Floats load_even(const uint16_t* p) {
    TW_PARTS(Floats, vreinterpretq_f32_u32(vshlq_n_u32(vreinterpretq_u32_u16(vld1q_u16(p + 8 * i)), 16)));
}
TW_INLINE Floats load_odd(const uint16_t* p) {
    TW_PARTS(Floats, vreinterpretq_f32_u32(
        vandq_u32(vreinterpretq_u32_u16(vld1q_u16(p + 8 * i)), vdupq_n_u32(0xFFFF0000))));
}
TW_INLINE Floats power_of_two(Ints n) {
    TW_PARTS(Floats, vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(n.part[i], vdupq_n_s32(127)), 23)));
}
TW_INLINE Floats times_power(Floats v, Floats shifted, Floats x, float limit) {
    TW_PARTS(Floats, vreinterpretq_f32_u32(vandq_u32(
        vaddq_u32(vreinterpretq_u32_f32(v.part[i]), vshlq_n_u32(vreinterpretq_u32_f32(shifted.part[i]), 23)),
        vcgeq_f32(x.part[i], vdupq_n_f32(limit)))));
}
TW_INLINE float32x4_t rounded_part(uint32x4_t bits) {
    const uint32x4_t even = vandq_u32(vshrq_n_u32(bits, 16), vdupq_n_u32(1));
    const uint32x4_t sum = vaddq_u32(vaddq_u32(bits, vdupq_n_u32(0x7FFF)), even);
    return vreinterpretq_f32_u32(vandq_u32(sum, vdupq_n_u32(0xFFFF0000)));
}
TW_INLINE Floats rounded_to_bf16(Floats v) { TW_PARTS(Floats, rounded_part(vreinterpretq_u32_f32(v.part[i]))); }
TW_INLINE Floats keep_first(Floats v, int count, float other) {
    const int32_t lanes[4] = {0, 1, 2, 3};
    TW_PARTS(Floats, vbslq_f32(vcgtq_s32(vdupq_n_s32(count - 4 * i), vld1q_s32(lanes)), v.part[i], vdupq_n_f32(other)));
}
TW_INLINE Floats keep_from(Floats v, int begin, float other) {
    const int32_t lanes[4] = {0, 1, 2, 3};
    TW_PARTS(Floats, vbslq_f32(vcgtq_s32(vdupq_n_s32(begin - 4 * i), vld1q_s32(lanes)), vdupq_n_f32(other), v.part[i]));
}
// The same folding order as the other paths: 16 -> 8 -> 4 -> 2 -> 1 by halves.
TW_INLINE float sum_lanes(Floats v) {
    const float32x4_t four =
        vaddq_f32(vaddq_f32(v.part[0], v.part[2]), vaddq_f32(v.part[1], v.part[3]));
    const float32x2_t two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
    return vget_lane_f32(two, 0) + vget_lane_f32(two, 1);
}
TW_INLINE float max_lanes(Floats v) {
    return vmaxvq_f32(vmaxq_f32(vmaxq_f32(v.part[0], v.part[2]), vmaxq_f32(v.part[1], v.part[3])));
}
TW_INLINE void store_bytes(int8_t* p, Ints v) {
    const int16x8_t low = vcombine_s16(vmovn_s32(v.part[0]), vmovn_s32(v.part[1]));
    const int16x8_t high = vcombine_s16(vmovn_s32(v.part[2]), vmovn_s32(v.part[3]));
    vst1q_s8(p, vcombine_s8(vmovn_s16(low), vmovn_s16(high)));
}
TW_INLINE int32_t sum_of(Ints a, Ints b) {
    int32x4_t sum = vaddq_s32(a.part[0], b.part[0]);
    for (int i = 1; i < 4; ++i) sum = vaddq_s32(sum, vaddq_s32(a.part[i], b.part[i]));
    return vaddvq_s32(sum);
}

#undef TW_PARTS

}  // namespace tokenworks::neon_lanes
