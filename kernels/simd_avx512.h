// Sixteen-lane arithmetic on AVX-512 (F, BW, VL, DQ) with VNNI: one register.
#pragma once
#ifndef TW_EMULATE_AVX512  // the emulated test build brings its own intrinsics
#include <immintrin.h>
#endif

#include "halves.h"
#include "layout.h"

namespace tokenworks::avx512vnni {

constexpr int kRowTile = 8;      // activation rows per register tile
constexpr int kRowsAtOnce = 16;  // and rows that one pass over the weights serves, tile after tile (product.inl)
constexpr int kSums = 12, kQueryRows = 12;  // attention: sums that registers hold, rows of its widest tile

using Floats = __m512;
using Ints = __m512i;

TW_INLINE Floats splat(float x) { return _mm512_set1_ps(x); }
TW_INLINE Floats load(const float* p) { return _mm512_loadu_ps(p); }
TW_INLINE void store(float* p, Floats v) { _mm512_storeu_ps(p, v); }
TW_INLINE Floats add(Floats a, Floats b) { return _mm512_add_ps(a, b); }
TW_INLINE Floats subtract(Floats a, Floats b) { return _mm512_sub_ps(a, b); }
TW_INLINE Floats multiply(Floats a, Floats b) { return _mm512_mul_ps(a, b); }
TW_INLINE Floats divide(Floats a, Floats b) { return _mm512_div_ps(a, b); }
TW_INLINE Floats maximum(Floats a, Floats b) { return _mm512_max_ps(a, b); }
TW_INLINE Floats minimum(Floats a, Floats b) { return _mm512_min_ps(a, b); }
TW_INLINE Floats fused(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }
TW_INLINE Floats numbers_only(Floats a) { return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(a, a, _CMP_ORD_Q), a); }
TW_INLINE Floats absolute(Floats a) { return _mm512_abs_ps(a); }
TW_INLINE Ints load_bytes(const int8_t* p) { return _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i*)p)); }
TW_INLINE Floats to_floats(Ints a) { return _mm512_cvtepi32_ps(a); }
TW_INLINE Ints round_to_ints(Floats a) { return _mm512_cvtps_epi32(a); }
TW_INLINE Floats load_half(const uint16_t* p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)p)); }
TW_INLINE void store_half(uint16_t* p, Floats v) {
    _mm256_storeu_si256((__m256i*)p, _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
TW_INLINE Floats load_bf16(const uint16_t* p) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)p)), 16));
}
TW_INLINE Floats load_even(const uint16_t* p) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_loadu_si512(p), 16)); }
TW_INLINE Floats load_odd(const uint16_t* p) {
    return _mm512_castsi512_ps(_mm512_and_si512(_mm512_loadu_si512(p), _mm512_set1_epi32(int32_t(0xFFFF0000))));
}
TW_INLINE Floats power_of_two(Ints n) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(n, _mm512_set1_epi32(127)), 23));
}
TW_INLINE Floats times_power(Floats v, Floats shifted, Floats x, float limit) {
    const __m512i n = _mm512_slli_epi32(_mm512_castps_si512(shifted), 23);
    const __mmask16 keep = _mm512_cmp_ps_mask(x, _mm512_set1_ps(limit), _CMP_GE_OQ);
    return _mm512_castsi512_ps(_mm512_maskz_add_epi32(keep, _mm512_castps_si512(v), n));
}
TW_INLINE Floats zero_below(Floats v, float least) {
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(_mm512_abs_ps(v), _mm512_set1_ps(least), _CMP_NLT_UQ), v);
}
TW_INLINE Floats rounded_to_bf16(Floats v) {
    const __m512i bits = _mm512_castps_si512(v), even = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i sum = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7FFF)), even);
    return _mm512_castsi512_ps(_mm512_and_si512(sum, _mm512_set1_epi32(int32_t(0xFFFF0000))));
}
TW_INLINE Floats keep_first(Floats v, int count, float other) {
    const __mmask16 keep = count >= 16 ? 0xFFFF : count <= 0 ? 0 : __mmask16((1u << count) - 1);
    return _mm512_mask_blend_ps(keep, _mm512_set1_ps(other), v);
}
TW_INLINE Floats keep_from(Floats v, int begin, float other) {
    const __mmask16 keep = begin >= 16 ? 0 : begin <= 0 ? 0xFFFF : __mmask16(0xFFFFu << begin);
    return _mm512_mask_blend_ps(keep, _mm512_set1_ps(other), v);
}
TW_INLINE __m256 low_half(Floats v) { return _mm512_castps512_ps256(v); }
TW_INLINE __m256 high_half(Floats v) { return _mm512_extractf32x8_ps(v, 1); }
// The same folding order as the other paths.
TW_INLINE float sum_lanes(Floats v) {
    __m256 a = _mm256_add_ps(low_half(v), high_half(v));
    __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    b = _mm_add_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_add_ss(b, _mm_movehdup_ps(b)));
}
TW_INLINE float max_lanes(Floats v) {
    __m256 a = _mm256_max_ps(low_half(v), high_half(v));
    __m128 b = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    b = _mm_max_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_max_ss(b, _mm_movehdup_ps(b)));
}
TW_INLINE void store_bytes(int8_t* p, Ints v) { _mm_storeu_si128((__m128i*)p, _mm512_cvtepi32_epi8(v)); }
TW_INLINE int32_t sum_of(Ints a, Ints b) { return _mm512_reduce_add_epi32(_mm512_add_epi32(a, b)); }
TW_INLINE Ints splat4(const int8_t* p) {
    int32_t bytes;
    __builtin_memcpy(&bytes, p, 4);
    return _mm512_set1_epi32(bytes);
}

template <int Rows, bool centred>
TW_INLINE void dot_q4(const uint8_t* w, const int8_t* const* in, const int32_t* centres, Ints* dots) {
    const __m512i nibble = _mm512_set1_epi8(15);
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r) dots[r] = centred ? _mm512_set1_epi32(centres[r]) : _mm512_setzero_si512();
#pragma GCC unroll 4
    for (int c = 0; c < 4; ++c) {
        const __m512i bytes = _mm512_loadu_si512(w + 64 * c);
        const __m512i a = _mm512_and_si512(bytes, nibble);
        const __m512i b = _mm512_and_si512(_mm512_srli_epi16(bytes, 4), nibble);
#pragma GCC unroll 8
        for (int r = 0; r < Rows; ++r) {
            dots[r] = _mm512_dpbusd_epi32(dots[r], a, splat4(in[r] + 4 * c));
            dots[r] = _mm512_dpbusd_epi32(dots[r], b, splat4(in[r] + 16 + 4 * c));
        }
    }
}

// Half a Q6 group's codes: inputs 12 * half + 0 … 11 as they lie, and 24 + 4 * half + 0 … 3 from the bits above them.
TW_INLINE void q6_codes(const uint8_t* w, int half, __m512i* codes) {
    const __m512i code = _mm512_set1_epi8(63), two = _mm512_set1_epi8(3), four = _mm512_set1_epi8(15);
    constexpr int choose = 0xCA;  // where the first operand has ones the second, else the third
    const __m512i a = _mm512_loadu_si512(w + 192 * half), b = _mm512_loadu_si512(w + 192 * half + 64);
    const __m512i c = _mm512_loadu_si512(w + 192 * half + 128);
    const __m512i above = _mm512_ternarylogic_epi32(two, _mm512_srli_epi16(a, 6), _mm512_srli_epi16(b, 4), choose);
    codes[0] = _mm512_and_si512(a, code);
    codes[1] = _mm512_and_si512(b, code);
    codes[2] = _mm512_and_si512(c, code);
    codes[3] = _mm512_and_si512(_mm512_ternarylogic_epi32(four, above, _mm512_srli_epi16(c, 2), choose), code);
}

// A Q6 group as a Q8 group has its weights: eight lines of 64 int8, code - 32, line c with inputs 4 * c … 4 * c + 3.
TW_INLINE void expand_q6(const uint8_t* w, int8_t* lines) {
    const __m512i middle = _mm512_set1_epi8(32);
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half) {
        __m512i codes[4];
        q6_codes(w, half, codes);
#pragma GCC unroll 3
        for (int c = 0; c < 3; ++c)
            _mm512_storeu_si512(lines + 64 * (3 * half + c), _mm512_sub_epi8(codes[c], middle));
        _mm512_storeu_si512(lines + 64 * (6 + half), _mm512_sub_epi8(codes[3], middle));
    }
}

// Codes are weights + 32 and go in unsigned; 32 * sum(in) comes off again.
template <int Rows>
TW_INLINE void dot_q6(const uint8_t* w, const int8_t* const* in, const int32_t* centres, Ints* dots) {
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r) dots[r] = _mm512_set1_epi32(4 * centres[r]);
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half) {
        __m512i codes[4];
        q6_codes(w, half, codes);
#pragma GCC unroll 8
        for (int r = 0; r < Rows; ++r) {
#pragma GCC unroll 3
            for (int c = 0; c < 3; ++c)
                dots[r] = _mm512_dpbusd_epi32(dots[r], codes[c], splat4(in[r] + 12 * half + 4 * c));
            dots[r] = _mm512_dpbusd_epi32(dots[r], codes[3], splat4(in[r] + 24 + 4 * half));
        }
    }
}

// dpbusd wants unsigned weights: w + 128 (a flip of the top bit) goes in, 128 * sum(in) comes off again.
template <int Rows>
TW_INLINE void dot_q8(const uint8_t* w, const int8_t* const* in, const int32_t* centres, Ints* dots) {
    const __m512i flip = _mm512_set1_epi8(char(0x80));
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r) dots[r] = _mm512_set1_epi32(16 * centres[r]);
#pragma GCC unroll 8
    for (int c = 0; c < 8; ++c) {
        const __m512i a = _mm512_xor_si512(_mm512_loadu_si512(w + 64 * c), flip);
#pragma GCC unroll 8
        for (int r = 0; r < Rows; ++r) dots[r] = _mm512_dpbusd_epi32(dots[r], a, splat4(in[r] + 4 * c));
    }
}

}  // namespace tokenworks::avx512vnni
