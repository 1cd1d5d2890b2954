// Sixteen-lane arithmetic on Arm with the dot-product extension (Armv8.2).
#pragma once
#include "lanes_neon.h"

namespace tokenworks::neon {

using namespace neon_lanes;

// `step` of 4: adds the products of 64 weight bytes (16 rows x 4 inputs) with activation bytes 4 * step … 4 * step + 3.
template <int step>
TW_INLINE void add_products(Ints& sums, const int8x16_t* weights, int8x16_t in) {
    for (int i = 0; i < 4; ++i) sums.part[i] = vdotq_laneq_s32(sums.part[i], weights[i], in, step);
}

template <int Rows, int c>
TW_INLINE void q4_step(const uint8_t* w, const int8x16_t* low, const int8x16_t* high, Ints* dots) {
    int8x16_t first[4], second[4];
    for (int i = 0; i < 4; ++i) {
        const uint8x16_t bytes = vld1q_u8(w + 64 * c + 16 * i);
        first[i] = vreinterpretq_s8_u8(vandq_u8(bytes, vdupq_n_u8(15)));
        second[i] = vreinterpretq_s8_u8(vshrq_n_u8(bytes, 4));
    }
    for (int r = 0; r < Rows; ++r) {
        add_products<c>(dots[r], first, low[r]);
        add_products<c>(dots[r], second, high[r]);
    }
}

template <int Rows>
TW_INLINE void clear_and_load(const int8_t* const* in, int8x16_t* low, int8x16_t* high, Ints* dots) {
    for (int r = 0; r < Rows; ++r) {
        low[r] = vld1q_s8(in[r]);
        high[r] = vld1q_s8(in[r] + 16);
        for (int i = 0; i < 4; ++i) dots[r].part[i] = vdupq_n_s32(0);
    }
}

template <int Rows, bool centred>
TW_INLINE void dot_q4(const uint8_t* w, const int8_t* const* in, const int32_t* centres, Ints* dots) {
    int8x16_t low[Rows], high[Rows];
    clear_and_load<Rows>(in, low, high, dots);
    for (int r = 0; r < Rows && centred; ++r)
        for (int i = 0; i < 4; ++i) dots[r].part[i] = vdupq_n_s32(centres[r]);
    q4_step<Rows, 0>(w, low, high, dots);
    q4_step<Rows, 1>(w, low, high, dots);
    q4_step<Rows, 2>(w, low, high, dots);
    q4_step<Rows, 3>(w, low, high, dots);
}

// Sixteen codes of a Q6 group's line c at byte `at`: as they lie, or for c of 6 and 7 from the bits above.
TW_INLINE int8x16_t q6_codes(const uint8_t* w, int c, int at) {
    if (c < 6) return vreinterpretq_s8_u8(vandq_u8(vld1q_u8(w + 64 * c + at), vdupq_n_u8(63)));
    const uint8_t* lines = w + 192 * (c - 6) + at;
    const uint8x16_t low = vshrq_n_u8(vld1q_u8(lines), 6), middle = vshrq_n_u8(vld1q_u8(lines + 64), 6);
    const uint8x16_t high = vshrq_n_u8(vld1q_u8(lines + 128), 6);
    return vreinterpretq_s8_u8(vsliq_n_u8(vsliq_n_u8(low, middle, 2), high, 4));
}

template <int Rows, int c>
TW_INLINE void q6_step(const uint8_t* w, const int8x16_t* in, Ints* dots) {
    int8x16_t weights[4];
    for (int i = 0; i < 4; ++i) weights[i] = q6_codes(w, c, 16 * i);
    for (int r = 0; r < Rows; ++r) add_products<c % 4>(dots[r], weights, in[r]);
}

// Codes are weights + 32; 32 * sum(in) comes off again.
template <int Rows>
TW_INLINE void dot_q6(const uint8_t* w, const int8_t* const* in, const int32_t* centres, Ints* dots) {
    int8x16_t low[Rows], high[Rows];
    clear_and_load<Rows>(in, low, high, dots);
    q6_step<Rows, 0>(w, low, dots);
    q6_step<Rows, 1>(w, low, dots);
    q6_step<Rows, 2>(w, low, dots);
    q6_step<Rows, 3>(w, low, dots);
    q6_step<Rows, 4>(w, high, dots);
    q6_step<Rows, 5>(w, high, dots);
    q6_step<Rows, 6>(w, high, dots);
    q6_step<Rows, 7>(w, high, dots);
    for (int r = 0; r < Rows; ++r)
        for (int i = 0; i < 4; ++i) dots[r].part[i] = vaddq_s32(dots[r].part[i], vdupq_n_s32(4 * centres[r]));
}

template <int Rows, int c>
TW_INLINE void q8_step(const uint8_t* w, const int8x16_t* in, Ints* dots) {
    int8x16_t weights[4];
    for (int i = 0; i < 4; ++i) weights[i] = vreinterpretq_s8_u8(vld1q_u8(w + 64 * c + 16 * i));
    for (int r = 0; r < Rows; ++r) add_products<c>(dots[r], weights, in[r]);
}

template <int Rows>
TW_INLINE void dot_q8(const uint8_t* w, const int8_t* const* in, const int32_t*, Ints* dots) {
    int8x16_t low[Rows], high[Rows];
    clear_and_load<Rows>(in, low, high, dots);
    q8_step<Rows, 0>(w, low, dots);
    q8_step<Rows, 1>(w, low, dots);
    q8_step<Rows, 2>(w, low, dots);
    q8_step<Rows, 3>(w, low, dots);
    q8_step<Rows, 0>(w + 256, high, dots);
    q8_step<Rows, 1>(w + 256, high, dots);
    q8_step<Rows, 2>(w + 256, high, dots);
    q8_step<Rows, 3>(w + 256, high, dots);
}

}  // namespace tokenworks::neon
