// Sixteen-bit floats and their bits, in plain C++.
#pragma once
#include <cstdint>

#define TW_INLINE static inline __attribute__((always_inline))
#define TW_MEMBER inline __attribute__((always_inline))

namespace tokenworks {

TW_INLINE uint16_t read16(const uint8_t* p) {
    uint16_t x;
    __builtin_memcpy(&x, p, 2);
    return x;
}

TW_INLINE float bits_to_float(uint32_t bits) {
    float x;
    __builtin_memcpy(&x, &bits, 4);
    return x;
}

TW_INLINE uint32_t float_to_bits(float x) {
    uint32_t bits;
    __builtin_memcpy(&bits, &x, 4);
    return bits;
}

TW_INLINE float half_to_float(uint16_t h) {
    const uint32_t sign = uint32_t(h & 0x8000) << 16, magnitude = h & 0x7FFF;
    if (magnitude >= 0x7C00) return bits_to_float(sign | 0x7F800000 | (magnitude & 0x3FF) << 13);
    // Shifted into place the exponent is too small by 112; the product mends it, subnormals included.
    return bits_to_float(sign | magnitude << 13) * 0x1p112f;
}

TW_INLINE uint16_t float_to_half(float x) {
    const uint32_t bits = float_to_bits(x), sign = bits >> 16 & 0x8000, magnitude = bits & 0x7FFFFFFF;
    if (magnitude > 0x7F800000) return uint16_t(sign | 0x7E00);
    if (magnitude >= 0x477FF000) return uint16_t(sign | 0x7C00);
    if (magnitude < 0x38800000)  // subnormal: adding 0.5 rounds to steps of 2^-24
        return uint16_t(sign | (float_to_bits(bits_to_float(magnitude) + 0.5f) - 0x3F000000));
    return uint16_t(sign | ((magnitude - 0x38000000 + 0xFFF + (magnitude >> 13 & 1)) >> 13));
}

TW_INLINE float bf16_to_float(uint16_t b) { return bits_to_float(uint32_t(b) << 16); }

TW_INLINE uint16_t float_to_bf16(float x) {
    const uint32_t bits = float_to_bits(x);
    if ((bits & 0x7FFFFFFF) > 0x7F800000) return uint16_t(bits >> 16 | 0x40);
    return uint16_t((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

// As attention's factor: what is less than 2^-50 becomes 0 (see attention.h).
TW_INLINE uint16_t float_to_factor(float x) {
    const uint32_t bits = float_to_bits(x), magnitude = bits & 0x7FFFFFFF;
    const uint32_t rounded = magnitude > 0x7F800000 ? bits | 0x400000 : bits + 0x7FFF + (bits >> 16 & 1);
    return magnitude < 0x26800000 ? 0 : uint16_t(rounded >> 16);
}

}  // namespace tokenworks
