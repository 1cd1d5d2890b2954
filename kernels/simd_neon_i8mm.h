// Sixteen-lane arithmetic on Arm with the 8-bit matrix products of Armv8.6 (FEAT_I8MM).
//
// One SMMLA multiplies two rows of eight bytes by two others and adds up four sums: twice the work of a dot-product
// instruction. Two activation rows make one side, two weight rows the other; an odd activation row out goes by dot
// products. All sums are whole numbers, so both ways give the same bits.
#pragma once
#include "simd_neon.h"

namespace tokenworks::neon_i8mm {

using namespace neon_lanes;

// Sums of two activation rows x, y with weight rows 2k, 2k+1: x by 2k, x by 2k+1, y by 2k, y by 2k+1.
struct PairSums { int32x4_t part[8]; };

// `first` and `second` are 64 weight bytes each: 16 rows x 4 inputs, and the next 4 inputs of the same rows.
// `in[p]` are the 8 activation bytes of those inputs, of row 2p and then of row 2p + 1.
template <int Pairs>
TW_INLINE void add_products(PairSums* sums, const int8x16_t* first, const int8x16_t* second, const int8x16_t* in) {
    for (int i = 0; i < 4; ++i) {
        const int32x4_t a = vreinterpretq_s32_s8(first[i]), b = vreinterpretq_s32_s8(second[i]);
        const int8x16_t low = vreinterpretq_s8_s32(vzip1q_s32(a, b)), high = vreinterpretq_s8_s32(vzip2q_s32(a, b));
        for (int p = 0; p < Pairs; ++p) {
            sums[p].part[2 * i] = vmmlaq_s32(sums[p].part[2 * i], in[p], low);
            sums[p].part[2 * i + 1] = vmmlaq_s32(sums[p].part[2 * i + 1], in[p], high);
        }
    }
}

template <int Pairs>
TW_INLINE void clear(PairSums* sums) {
    for (int p = 0; p < Pairs; ++p)
        for (int i = 0; i < 8; ++i) sums[p].part[i] = vdupq_n_s32(0);
}

template <int Pairs>
TW_INLINE void load_pairs(const int8_t* const* in, int input, int8x16_t* pairs) {
    for (int p = 0; p < Pairs; ++p)
        pairs[p] = vcombine_s8(vld1_s8(in[2 * p] + input), vld1_s8(in[2 * p + 1] + input));
}

// From pairs to one row of sums each.
template <int Pairs>
TW_INLINE void part_rows(const PairSums* sums, Ints* dots) {
    for (int p = 0; p < Pairs; ++p)
        for (int i = 0; i < 4; ++i) {
            const int64x2_t a = vreinterpretq_s64_s32(sums[p].part[2 * i]);
            const int64x2_t b = vreinterpretq_s64_s32(sums[p].part[2 * i + 1]);
            dots[2 * p].part[i] = vreinterpretq_s32_s64(vzip1q_s64(a, b));
            dots[2 * p + 1].part[i] = vreinterpretq_s32_s64(vzip2q_s64(a, b));
        }
}

template <int Rows, bool centred>
TW_INLINE void dot_q4(const uint8_t* w, const int8_t* const* in, const int32_t* centres, Ints* dots) {
    constexpr int Pairs = Rows / 2;
    if constexpr (Pairs > 0) {
        PairSums sums[Pairs];
        clear<Pairs>(sums);
        for (int c = 0; c < 4; c += 2) {
            int8x16_t low[8], high[8], pairs[Pairs];
            for (int i = 0; i < 8; ++i) {
                const uint8x16_t bytes = vld1q_u8(w + 64 * c + 16 * i);
                low[i] = vreinterpretq_s8_u8(vandq_u8(bytes, vdupq_n_u8(15)));
                high[i] = vreinterpretq_s8_u8(vshrq_n_u8(bytes, 4));
            }
            load_pairs<Pairs>(in, 4 * c, pairs);
            add_products<Pairs>(sums, low, low + 4, pairs);
            load_pairs<Pairs>(in, 16 + 4 * c, pairs);
            add_products<Pairs>(sums, high, high + 4, pairs);
        }
        part_rows<Pairs>(sums, dots);
        for (int r = 0; r < 2 * Pairs && centred; ++r)
            for (int i = 0; i < 4; ++i) dots[r].part[i] = vaddq_s32(dots[r].part[i], vdupq_n_s32(centres[r]));
    }
    if constexpr (Rows % 2 == 1) neon::dot_q4<1, centred>(w, in + Rows - 1, centres + Rows - 1, dots + Rows - 1);
}

template <int Rows>
TW_INLINE void dot_q6(const uint8_t* w, const int8_t* const* in, const int32_t* centres, Ints* dots) {
    constexpr int Pairs = Rows / 2;
    if constexpr (Pairs > 0) {
        PairSums sums[Pairs];
        clear<Pairs>(sums);
        for (int c = 0; c < 8; c += 2) {
            int8x16_t codes[8], pairs[Pairs];
            for (int i = 0; i < 8; ++i) codes[i] = neon::q6_codes(w, c + i / 4, i % 4 * 16);
            load_pairs<Pairs>(in, 4 * c, pairs);
            add_products<Pairs>(sums, codes, codes + 4, pairs);
        }
        part_rows<Pairs>(sums, dots);
        for (int r = 0; r < 2 * Pairs; ++r)  // codes are weights + 32
            for (int i = 0; i < 4; ++i) dots[r].part[i] = vaddq_s32(dots[r].part[i], vdupq_n_s32(4 * centres[r]));
    }
    if constexpr (Rows % 2 == 1) neon::dot_q6<1>(w, in + Rows - 1, centres + Rows - 1, dots + Rows - 1);
}

template <int Rows>
TW_INLINE void dot_q8(const uint8_t* w, const int8_t* const* in, const int32_t* centres, Ints* dots) {
    constexpr int Pairs = Rows / 2;
    if constexpr (Pairs > 0) {
        PairSums sums[Pairs];
        clear<Pairs>(sums);
        for (int c = 0; c < 8; c += 2) {
            int8x16_t weights[8], pairs[Pairs];
            for (int i = 0; i < 8; ++i) weights[i] = vreinterpretq_s8_u8(vld1q_u8(w + 64 * c + 16 * i));
            load_pairs<Pairs>(in, 4 * c, pairs);
            add_products<Pairs>(sums, weights, weights + 4, pairs);
        }
        part_rows<Pairs>(sums, dots);
    }
    if constexpr (Rows % 2 == 1) neon::dot_q8<1>(w, in + Rows - 1, centres + Rows - 1, dots + Rows - 1);
}

}  // namespace tokenworks::neon_i8mm
