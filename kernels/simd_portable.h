// Sixteen-lane arithmetic in plain C++, for any processor; the compiler vectorises what it can.
#pragma once
#include "layout.h"

#define TW_INLINE static inline __attribute__((always_inline))

namespace tokenworks::portable {

constexpr int kRowTile = 1;  // unpacking is not what takes the time here, and one tile compiles fast

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
TW_INLINE Floats absolute(Floats a) { TW_LANES(Floats, __builtin_fabsf(a.lane[i])); }
TW_INLINE Floats to_floats(Ints a) { TW_LANES(Floats, float(a.lane[i])); }
TW_INLINE Ints round_to_ints(Floats a) { TW_LANES(Ints, int32_t(__builtin_nearbyintf(a.lane[i]))); }

TW_INLINE float bits_to_float(uint32_t bits) {
    float x;
    __builtin_memcpy(&x, &bits, 4);
    return x;
}
TW_INLINE float half_to_float(uint16_t h) {
    const uint32_t sign = uint32_t(h & 0x8000) << 16, magnitude = h & 0x7FFF;
    if (magnitude >= 0x7C00) return bits_to_float(sign | 0x7F800000 | (magnitude & 0x3FF) << 13);
    // Shifted into place the exponent is too small by 112; the product mends it, subnormals included.
    return bits_to_float(sign | magnitude << 13) * 0x1p112f;
}
TW_INLINE uint16_t float_to_half(float x) {
    uint32_t bits;
    __builtin_memcpy(&bits, &x, 4);
    const uint32_t sign = bits >> 16 & 0x8000, magnitude = bits & 0x7FFFFFFF;
    if (magnitude > 0x7F800000) return uint16_t(sign | 0x7E00);
    if (magnitude >= 0x477FF000) return uint16_t(sign | 0x7C00);
    if (magnitude < 0x38800000) {  // subnormal: adding 0.5 rounds to steps of 2^-24
        const float shifted = bits_to_float(magnitude) + 0.5f;
        uint32_t rounded;
        __builtin_memcpy(&rounded, &shifted, 4);
        return uint16_t(sign | (rounded - 0x3F000000));
    }
    return uint16_t(sign | ((magnitude - 0x38000000 + 0xFFF + (magnitude >> 13 & 1)) >> 13));
}
TW_INLINE Floats load_half(const uint16_t* p) { TW_LANES(Floats, half_to_float(p[i])); }
TW_INLINE void store_half(uint16_t* p, Floats v) { for (int i = 0; i < 16; ++i) p[i] = float_to_half(v.lane[i]); }
TW_INLINE Floats load_bf16(const uint16_t* p) { TW_LANES(Floats, bits_to_float(uint32_t(p[i]) << 16)); }
TW_INLINE Floats power_of_two(Ints n) { TW_LANES(Floats, bits_to_float(uint32_t(n.lane[i] + 127) << 23)); }
TW_INLINE Floats keep_first(Floats v, int count, float other) { TW_LANES(Floats, i < count ? v.lane[i] : other); }
TW_INLINE float sum_lanes(Floats v) {
    for (int width = 8; width > 0; width /= 2)
        for (int i = 0; i < width; ++i) v.lane[i] += v.lane[i + width];
    return v.lane[0];
}
TW_INLINE float max_lanes(Floats v) {
    for (int i = 1; i < 16; ++i) v.lane[0] = v.lane[i] > v.lane[0] ? v.lane[i] : v.lane[0];
    return v.lane[0];
}
TW_INLINE int32_t store_bytes(int8_t* p, Ints v) {
    int32_t sum = 0;
    for (int i = 0; i < 16; ++i) sum += p[i] = int8_t(v.lane[i]);
    return sum;
}

template <int Rows>
TW_INLINE void dot_q4(const uint8_t* w, const int8_t* const* in, Ints* dots) {
    for (int r = 0; r < Rows; ++r) {
        dots[r] = {};
        for (int c = 0; c < 4; ++c)
            for (int lane = 0; lane < 16; ++lane)
                for (int i = 0; i < 4; ++i) {
                    const int byte = w[64 * c + 4 * lane + i];
                    dots[r].lane[lane] += (byte & 15) * in[r][4 * c + i] + (byte >> 4) * in[r][16 + 4 * c + i];
                }
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
