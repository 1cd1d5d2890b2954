// Sixteen-lane arithmetic on AVX2 + FMA + F16C: two 8-lane halves.
#pragma once
#include <immintrin.h>

#include "halves.h"
#include "layout.h"

namespace tokenworks::avx2 {

constexpr int kRowTile = 4;  // activation rows per register tile
constexpr int kRowsAtOnce = kRowTile;
constexpr int kSums = 6, kQueryRows = 6;  // attention: sums that registers hold, rows of its widest tile

struct Floats { __m256 low, high; };
struct Ints { __m256i low, high; };

TW_INLINE Floats splat(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
TW_INLINE Floats load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
TW_INLINE void store(float* p, Floats v) { _mm256_storeu_ps(p, v.low); _mm256_storeu_ps(p + 8, v.high); }
TW_INLINE Floats add(Floats a, Floats b) { return {_mm256_add_ps(a.low, b.low), _mm256_add_ps(a.high, b.high)}; }
TW_INLINE Floats subtract(Floats a, Floats b) { return {_mm256_sub_ps(a.low, b.low), _mm256_sub_ps(a.high, b.high)}; }
TW_INLINE Floats multiply(Floats a, Floats b) { return {_mm256_mul_ps(a.low, b.low), _mm256_mul_ps(a.high, b.high)}; }
TW_INLINE Floats divide(Floats a, Floats b) { return {_mm256_div_ps(a.low, b.low), _mm256_div_ps(a.high, b.high)}; }
TW_INLINE Floats maximum(Floats a, Floats b) { return {_mm256_max_ps(a.low, b.low), _mm256_max_ps(a.high, b.high)}; }
TW_INLINE Floats minimum(Floats a, Floats b) { return {_mm256_min_ps(a.low, b.low), _mm256_min_ps(a.high, b.high)}; }
TW_INLINE Floats fused(Floats a, Floats b, Floats c) {  // a * b + c
    return {_mm256_fmadd_ps(a.low, b.low, c.low), _mm256_fmadd_ps(a.high, b.high, c.high)};
}
TW_INLINE Floats numbers_only(Floats a) {
    return {_mm256_and_ps(a.low, _mm256_cmp_ps(a.low, a.low, _CMP_ORD_Q)),
            _mm256_and_ps(a.high, _mm256_cmp_ps(a.high, a.high, _CMP_ORD_Q))};
}
TW_INLINE Floats absolute(Floats a) {
    const __m256 sign = _mm256_set1_ps(-0.0f);
    return {_mm256_andnot_ps(sign, a.low), _mm256_andnot_ps(sign, a.high)};
}
TW_INLINE Ints load_bytes(const int8_t* p) {
    return {_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i*)p)), _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i*)(p + 8)))};
}
TW_INLINE Floats to_floats(Ints a) { return {_mm256_cvtepi32_ps(a.low), _mm256_cvtepi32_ps(a.high)}; }
TW_INLINE Ints round_to_ints(Floats a) { return {_mm256_cvtps_epi32(a.low), _mm256_cvtps_epi32(a.high)}; }
TW_INLINE Floats load_half(const uint16_t* p) {
    return {_mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)p)), _mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)(p + 8)))};
}
TW_INLINE void store_half(uint16_t* p, Floats v) {
    _mm_storeu_si128((__m128i*)p, _mm256_cvtps_ph(v.low, _MM_FROUND_TO_NEAREST_INT));
    _mm_storeu_si128((__m128i*)(p + 8), _mm256_cvtps_ph(v.high, _MM_FROUND_TO_NEAREST_INT));
}
TW_INLINE Floats load_bf16(const uint16_t* p) {
    auto widen = [](const uint16_t* q) {
        return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i*)q)), 16));
    };
    return {widen(p), widen(p + 8)};
}
// Of sixteen pairs of bf16 the first ones, or the second ones.
TW_INLINE Floats load_even(const uint16_t* p) {
    auto half = [](const uint16_t* q) {
        return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_loadu_si256((const __m256i*)q), 16));
    };
    return {half(p), half(p + 16)};
}
TW_INLINE Floats load_odd(const uint16_t* p) {
    auto half = [](const uint16_t* q) {
        const __m256i upper = _mm256_set1_epi32(int32_t(0xFFFF0000));
        return _mm256_castsi256_ps(_mm256_and_si256(_mm256_loadu_si256((const __m256i*)q), upper));
    };
    return {half(p), half(p + 16)};
}
TW_INLINE Floats power_of_two(Ints n) {  // 2^n for -126 <= n <= 127
    auto half = [](__m256i v) {
        return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(v, _mm256_set1_epi32(127)), 23));
    };
    return {half(n.low), half(n.high)};
}
// v * 2^n where x >= limit, else 0. n is given as n + 1.5 * 2^23, whose low bits are added to v's exponent.
TW_INLINE Floats times_power(Floats v, Floats shifted, Floats x, float limit) {
    auto half = [limit](__m256 v, __m256 shifted, __m256 x) {
        const __m256i n = _mm256_slli_epi32(_mm256_castps_si256(shifted), 23);
        const __m256 product = _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(v), n));
        return _mm256_and_ps(product, _mm256_cmp_ps(x, _mm256_set1_ps(limit), _CMP_GE_OQ));
    };
    return {half(v.low, shifted.low, x.low), half(v.high, shifted.high, x.high)};
}
TW_INLINE Floats zero_below(Floats v, float least) {  // where the magnitude is less
    const Floats a = absolute(v);
    const __m256 limit = _mm256_set1_ps(least);
    return {_mm256_and_ps(v.low, _mm256_cmp_ps(a.low, limit, _CMP_NLT_UQ)),
            _mm256_and_ps(v.high, _mm256_cmp_ps(a.high, limit, _CMP_NLT_UQ))};
}
TW_INLINE Floats rounded_to_bf16(Floats v) {  // to the nearest, to even if there are two; v is a number
    auto half = [](__m256 v) {
        const __m256i bits = _mm256_castps_si256(v), even = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
        const __m256i sum = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7FFF)), even);
        return _mm256_castsi256_ps(_mm256_and_si256(sum, _mm256_set1_epi32(int32_t(0xFFFF0000))));
    };
    return {half(v.low), half(v.high)};
}
TW_INLINE Floats keep_first(Floats v, int count, float other) {  // lanes >= count become `other`
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), n = _mm256_set1_epi32(count);
    const __m256 fill = _mm256_set1_ps(other);
    const __m256i keep_low = _mm256_cmpgt_epi32(n, lane);
    const __m256i keep_high = _mm256_cmpgt_epi32(n, _mm256_add_epi32(lane, _mm256_set1_epi32(8)));
    return {_mm256_blendv_ps(fill, v.low, _mm256_castsi256_ps(keep_low)),
            _mm256_blendv_ps(fill, v.high, _mm256_castsi256_ps(keep_high))};
}
TW_INLINE Floats keep_from(Floats v, int begin, float other) {  // lanes < begin become `other`
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), n = _mm256_set1_epi32(begin);
    const __m256 fill = _mm256_set1_ps(other);
    const __m256i drop_low = _mm256_cmpgt_epi32(n, lane);
    const __m256i drop_high = _mm256_cmpgt_epi32(n, _mm256_add_epi32(lane, _mm256_set1_epi32(8)));
    return {_mm256_blendv_ps(v.low, fill, _mm256_castsi256_ps(drop_low)),
            _mm256_blendv_ps(v.high, fill, _mm256_castsi256_ps(drop_high))};
}
// Lanes are folded 16 -> 8 -> 4 -> 2 -> 1 by halves, the same on every path.
TW_INLINE float sum_lanes(Floats v) {
    __m256 a = _mm256_add_ps(v.low, v.high);
    __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    b = _mm_add_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_add_ss(b, _mm_movehdup_ps(b)));
}
TW_INLINE float max_lanes(Floats v) {
    __m256 a = _mm256_max_ps(v.low, v.high);
    __m128 b = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    b = _mm_max_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_max_ss(b, _mm_movehdup_ps(b)));
}
// 16 int32 within ±127 to int8; returns their sum.
TW_INLINE void store_bytes(int8_t* p, Ints v) {
    __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(v.low, v.high), 0xD8);
    _mm_storeu_si128((__m128i*)p, _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1)));
}
TW_INLINE int32_t sum_of(Ints a, Ints b) {
    const __m256i s = _mm256_add_epi32(_mm256_add_epi32(a.low, a.high), _mm256_add_epi32(b.low, b.high));
    __m128i t = _mm_add_epi32(_mm256_castsi256_si128(s), _mm256_extracti128_si256(s, 1));
    t = _mm_add_epi32(t, _mm_shuffle_epi32(t, 0x4E));
    return _mm_cvtsi128_si32(_mm_add_epi32(t, _mm_shuffle_epi32(t, 0xB1)));
}

TW_INLINE __m256i splat4(const int8_t* p) {
    int32_t bytes;
    __builtin_memcpy(&bytes, p, 4);
    return _mm256_set1_epi32(bytes);
}

// GCC would turn a chain of additions into a tree and spill its leaves; this costs no instruction and stops it.
TW_INLINE void keep_in_register(__m256i& a, __m256i& b) { asm("" : "+x"(a), "+x"(b)); }

// Exact dot products of one Q4 group (16 rows x 32 inputs) with `Rows` activation groups.
// A pair of products is at most 2 * 15 * 127 = 3810, so eight of them fit int16 (30480).
template <int Rows, bool centred>
TW_INLINE void dot_q4(const uint8_t* w, const int8_t* const* in, const int32_t* centres, Ints* dots) {
    const __m256i nibble = _mm256_set1_epi8(15), ones = _mm256_set1_epi16(1);
    __m256i low[Rows], high[Rows];
#pragma GCC unroll 4
    for (int c = 0; c < 4; ++c) {
        const __m256i bytes0 = _mm256_loadu_si256((const __m256i*)(w + 64 * c));
        const __m256i bytes1 = _mm256_loadu_si256((const __m256i*)(w + 64 * c + 32));
        const __m256i a0 = _mm256_and_si256(bytes0, nibble), a1 = _mm256_and_si256(bytes1, nibble);
#pragma GCC unroll 8
        for (int r = 0; r < Rows; ++r) {
            const __m256i x = splat4(in[r] + 4 * c);
            const __m256i p0 = _mm256_maddubs_epi16(a0, x), p1 = _mm256_maddubs_epi16(a1, x);
            low[r] = c == 0 ? p0 : _mm256_add_epi16(low[r], p0);
            high[r] = c == 0 ? p1 : _mm256_add_epi16(high[r], p1);
            keep_in_register(low[r], high[r]);
        }
        const __m256i b0 = _mm256_and_si256(_mm256_srli_epi16(bytes0, 4), nibble);
        const __m256i b1 = _mm256_and_si256(_mm256_srli_epi16(bytes1, 4), nibble);
#pragma GCC unroll 8
        for (int r = 0; r < Rows; ++r) {
            const __m256i x = splat4(in[r] + 16 + 4 * c);
            low[r] = _mm256_add_epi16(low[r], _mm256_maddubs_epi16(b0, x));
            high[r] = _mm256_add_epi16(high[r], _mm256_maddubs_epi16(b1, x));
            keep_in_register(low[r], high[r]);
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r) {
        dots[r] = {_mm256_madd_epi16(low[r], ones), _mm256_madd_epi16(high[r], ones)};
        if constexpr (centred) {
            const __m256i centre = _mm256_set1_epi32(centres[r]);
            dots[r] = {_mm256_add_epi32(dots[r].low, centre), _mm256_add_epi32(dots[r].high, centre)};
        }
    }
}

// Adds the products of codes `a` with activation bytes from `at` on and of codes `b` with those from `bt` on. Two pairs
// of products, at most 2 * 2 * 63 * 127 = 32004, fit int16 together.
template <int Rows>
TW_INLINE void add_q6(const __m256i* a, int at, const __m256i* b, int bt, const int8_t* const* in, __m256i* low,
                      __m256i* high) {
    const __m256i ones = _mm256_set1_epi16(1);
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r) {
        const __m256i x = splat4(in[r] + at), y = splat4(in[r] + bt);
        const __m256i p0 = _mm256_add_epi16(_mm256_maddubs_epi16(a[0], x), _mm256_maddubs_epi16(b[0], y));
        const __m256i p1 = _mm256_add_epi16(_mm256_maddubs_epi16(a[1], x), _mm256_maddubs_epi16(b[1], y));
        low[r] = _mm256_add_epi32(low[r], _mm256_madd_epi16(p0, ones));
        high[r] = _mm256_add_epi32(high[r], _mm256_madd_epi16(p1, ones));
        keep_in_register(low[r], high[r]);
    }
}

// The same for a Q6 group: codes are weights + 32 and go in unsigned; 32 * sum(in) comes off again.
template <int Rows>
TW_INLINE void dot_q6(const uint8_t* w, const int8_t* const* in, const int32_t* centres, Ints* dots) {
    const __m256i code = _mm256_set1_epi8(63);
    __m256i low[Rows], high[Rows];
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r) low[r] = high[r] = _mm256_set1_epi32(4 * centres[r]);
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half) {
        const uint8_t* lines = w + 192 * half;
        auto line = [&](int c, int part) { return _mm256_loadu_si256((const __m256i*)(lines + 64 * c + 32 * part)); };
        __m256i a[2], b[2];
        for (int part = 0; part < 2; ++part) {
            a[part] = _mm256_and_si256(line(0, part), code);
            b[part] = _mm256_and_si256(line(1, part), code);
        }
        add_q6<Rows>(a, 12 * half, b, 12 * half + 4, in, low, high);
        for (int part = 0; part < 2; ++part) {
            const __m256i one = _mm256_and_si256(_mm256_srli_epi16(line(0, part), 6), _mm256_set1_epi8(3));
            const __m256i two = _mm256_and_si256(_mm256_srli_epi16(line(1, part), 4), _mm256_set1_epi8(12));
            const __m256i three = _mm256_and_si256(_mm256_srli_epi16(line(2, part), 2), _mm256_set1_epi8(48));
            a[part] = _mm256_and_si256(line(2, part), code);
            b[part] = _mm256_or_si256(_mm256_or_si256(one, two), three);
        }
        add_q6<Rows>(a, 12 * half + 8, b, 24 + 4 * half, in, low, high);
    }
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r) dots[r] = {low[r], high[r]};
}

// The same for a Q8 group. |w| goes in unsigned and its sign moves to the activation: 2 * 127 * 127 fits int16,
// provided that no weight is -128 (packing sees to it).
template <int Rows>
TW_INLINE void dot_q8(const uint8_t* w, const int8_t* const* in, const int32_t*, Ints* dots) {
    const __m256i ones = _mm256_set1_epi16(1);
    __m256i low[Rows], high[Rows];
#pragma GCC unroll 8
    for (int c = 0; c < 8; ++c) {
        const __m256i w0 = _mm256_loadu_si256((const __m256i*)(w + 64 * c));
        const __m256i w1 = _mm256_loadu_si256((const __m256i*)(w + 64 * c + 32));
        const __m256i a0 = _mm256_abs_epi8(w0), a1 = _mm256_abs_epi8(w1);
#pragma GCC unroll 8
        for (int r = 0; r < Rows; ++r) {
            const __m256i x = splat4(in[r] + 4 * c);
            const __m256i p0 = _mm256_madd_epi16(_mm256_maddubs_epi16(a0, _mm256_sign_epi8(x, w0)), ones);
            const __m256i p1 = _mm256_madd_epi16(_mm256_maddubs_epi16(a1, _mm256_sign_epi8(x, w1)), ones);
            low[r] = c == 0 ? p0 : _mm256_add_epi32(low[r], p0);
            high[r] = c == 0 ? p1 : _mm256_add_epi32(high[r], p1);
            keep_in_register(low[r], high[r]);
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r) dots[r] = {low[r], high[r]};
}

}  // namespace tokenworks::avx2
