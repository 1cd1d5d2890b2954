// Sixteen-lane arithmetic in plain C++, for any processor; the compiler vectorises what it can.
#pragma once
#include "halves.h"
#include "layout.h"

namespace tokenworks::portable {

constexpr int kSums = 4, kQueryRows = 4;  // attention: sums kept at once, rows of its widest tile
constexpr int kRowTile = 1;  // unpacking is not what takes the time here, and one tile compiles fast
constexpr int kRowsAtOnce = kRowTile;

struct Floats { float lane[16]; };
struct Ints { int32_t lane[16]; };

#define TW_LANES(type, expression)              \
    type result;                                \
    for (int i = 0; i < 16; ++i) result.lane[i] = (expression); \
    return result

TW_INLINE Floats splat(float x) { TW_LANES(Floats, x); }
TW_INLINE Floats load(const float* p) { TW_LANES(Floats, p[i]); }
TW_INLINE void store(float* p, Floats v) { for (int i = 0; i < 16; ++i) p[i] = v.lane[i]; }
TW_INLINE Floats add(Floats a, Floats b) { TW_LANES(Floats, a.lane[i] + b.lane[i]); }
TW_INLINE Floats subtract(Floats a, Floats b) { TW_LANES(Floats, a.lane[i] - b.lane[i]); }
TW_INLINE Floats multiply(Floats a, Floats b) { TW_LANES(Floats, a.lane[i] * b.lane[i]); }
TW_INLINE Floats divide(Floats a, Floats b) { TW_LANES(Floats, a.lane[i] / b.lane[i]); }
TW_INLINE Floats maximum(Floats a, Floats b) { TW_LANES(Floats, a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i]); }
TW_INLINE Floats minimum(Floats a, Floats b) { TW_LANES(Floats, a.lane[i] < b.lane[i] ? a.lane[i] : b.lane[i]); }
// Two roundings here, one on the other paths: a processor without FMA would emulate it in software.
TW_INLINE Floats fused(Floats a, Floats b, Floats c) { TW_LANES(Floats, a.lane[i] * b.lane[i] + c.lane[i]); }
// NaN becomes 0.
TW_INLINE Floats numbers_only(Floats a) { TW_LANES(Floats, a.lane[i] == a.lane[i] ? a.lane[i] : 0.0f); }
TW_INLINE Floats absolute(Floats a) { TW_LANES(Floats, __builtin_fabsf(a.lane[i])); }
TW_INLINE Ints load_bytes(const int8_t* p) { TW_LANES(Ints, p[i]); }
TW_INLINE Floats to_floats(Ints a) { TW_LANES(Floats, float(a.lane[i])); }
// Within ±2^22: 1.5 * 2^23 has no room for a fraction, so adding it rounds, and the sum's low bits are the number.
TW_INLINE Ints round_to_ints(Floats a) { TW_LANES(Ints, int32_t(float_to_bits(a.lane[i] + 0x1.8p23f)) - 0x4B400000); }

TW_INLINE Floats load_half(const uint16_t* p) { TW_LANES(Floats, half_to_float(p[i])); }
TW_INLINE void store_half(uint16_t* p, Floats v) { for (int i = 0; i < 16; ++i) p[i] = float_to_half(v.lane[i]); }
TW_INLINE Floats load_bf16(const uint16_t* p) { TW_LANES(Floats, bf16_to_float(p[i])); }
TW_INLINE Floats load_even(const uint16_t* p) { TW_LANES(Floats, bf16_to_float(p[2 * i])); }
TW_INLINE Floats load_odd(const uint16_t* p) { TW_LANES(Floats, bf16_to_float(p[2 * i + 1])); }
TW_INLINE Floats power_of_two(Ints n) { TW_LANES(Floats, bits_to_float(uint32_t(n.lane[i] + 127) << 23)); }
TW_INLINE Floats times_power(Floats v, Floats shifted, Floats x, float limit) {
    TW_LANES(Floats, x.lane[i] >= limit ? bits_to_float(float_to_bits(v.lane[i]) + (float_to_bits(shifted.lane[i]) << 23)) : 0);
}
TW_INLINE Floats zero_below(Floats v, float least) { TW_LANES(Floats, __builtin_fabsf(v.lane[i]) < least ? 0.0f : v.lane[i]); }
TW_INLINE Floats rounded_to_bf16(Floats v) { TW_LANES(Floats, bf16_to_float(float_to_bf16(v.lane[i]))); }
TW_INLINE Floats keep_first(Floats v, int count, float other) { TW_LANES(Floats, i < count ? v.lane[i] : other); }
TW_INLINE Floats keep_from(Floats v, int begin, float other) { TW_LANES(Floats, i >= begin ? v.lane[i] : other); }
TW_INLINE float sum_lanes(Floats v) {
    for (int width = 8; width > 0; width /= 2)
        for (int i = 0; i < width; ++i) v.lane[i] += v.lane[i + width];
    return v.lane[0];
}
TW_INLINE float max_lanes(Floats v) {
    for (int i = 1; i < 16; ++i) v.lane[0] = v.lane[i] > v.lane[0] ? v.lane[i] : v.lane[0];
    return v.lane[0];
}
TW_INLINE void store_bytes(int8_t* p, Ints v) {
    for (int i = 0; i < 16; ++i) p[i] = int8_t(v.lane[i]);
}
TW_INLINE int32_t sum_of(Ints a, Ints b) {
    int32_t sum = 0;
    for (int i = 0; i < 16; ++i) sum += a.lane[i] + b.lane[i];
    return sum;
}

template <int Rows, bool centred>
TW_INLINE void dot_q4(const uint8_t* w, const int8_t* const* in, const int32_t* centres, Ints* dots) {
    for (int r = 0; r < Rows; ++r) {
        for (int lane = 0; lane < 16; ++lane) dots[r].lane[lane] = centred ? centres[r] : 0;
        for (int c = 0; c < 4; ++c)
            for (int lane = 0; lane < 16; ++lane)
                for (int i = 0; i < 4; ++i) {
                    const int byte = w[64 * c + 4 * lane + i];
                    dots[r].lane[lane] += (byte & 15) * in[r][4 * c + i] + (byte >> 4) * in[r][16 + 4 * c + i];
                }
    }
}

template <int Rows>
TW_INLINE void dot_q6(const uint8_t* w, const int8_t* const* in, const int32_t*, Ints* dots) {
    int8_t weights[8 * 64];
    for (int c = 0; c < 6; ++c)
        for (int i = 0; i < 64; ++i) weights[64 * c + i] = int8_t((w[64 * c + i] & 63) - 32);
    for (int half = 0; half < 2; ++half)
        for (int i = 0; i < 64; ++i) {
            const uint8_t* line = w + 192 * half + i;
            weights[64 * (6 + half) + i] = int8_t((line[0] >> 6 | line[64] >> 6 << 2 | line[128] >> 6 << 4) - 32);
        }
    for (int r = 0; r < Rows; ++r) {
        dots[r] = {};
        for (int c = 0; c < 8; ++c)
            for (int lane = 0; lane < 16; ++lane)
                for (int i = 0; i < 4; ++i)
                    dots[r].lane[lane] += weights[64 * c + 4 * lane + i] * in[r][4 * c + i];
    }
}

template <int Rows>
TW_INLINE void dot_q8(const uint8_t* w, const int8_t* const* in, const int32_t*, Ints* dots) {
    for (int r = 0; r < Rows; ++r) {
        dots[r] = {};
        for (int c = 0; c < 8; ++c)
            for (int lane = 0; lane < 16; ++lane)
                for (int i = 0; i < 4; ++i)
                    dots[r].lane[lane] += int8_t(w[64 * c + 4 * lane + i]) * in[r][4 * c + i];
    }
}

#undef TW_LANES

}  // namespace tokenworks::portable
