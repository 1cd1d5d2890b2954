// Takes the blocks of a file's formats apart, in plain loops; every path compiles them for itself.
//
// weight = scale * quant - minimum, each operation rounded, as ggml computes it.
// Source: ggml, ggml-common.h (`block_*`), ggml-quants.c (`dequantize_row_*`).
#pragma once
#include "halves.h"
#include "source.h"

namespace tokenworks {

struct Numbers {  // a block in numbers; `minimum` only where the format has one
    alignas(64) int8_t quants[kLargestBlock];
    float scale[16], minimum[16];  // of each group
};

template <Source source>
constexpr bool kHasMinimum = source == Source::q4_1 || source == Source::q5_1 || source == Source::q2_k ||
                             source == Source::q4_k || source == Source::q5_k;

template <Source source>  // weights that share a scale
constexpr int kScaleGroup = source == Source::q2_k || source == Source::q3_k || source == Source::q6_k ? 16 : 32;

// `bits` bits of each of `size` bytes from `shift` on, eight bytes at a time: what comes from the next is masked.
template <int size>
TW_INLINE void bits_of(const uint8_t* packed, int shift, int bits, int8_t* out) {
    const uint64_t mask = ((1u << bits) - 1) * 0x0101010101010101u;
    for (int i = 0; i < size; i += 8) {
        uint64_t eight;
        __builtin_memcpy(&eight, packed + i, 8);
        eight = eight >> shift & mask;
        __builtin_memcpy(out + i, &eight, 8);
    }
}

// 16 bytes hold 32 weights: the low halves of all, then the high ones.
TW_INLINE void nibbles_of(const uint8_t* packed, int8_t* out) {
    bits_of<16>(packed, 0, 4, out);
    bits_of<16>(packed, 4, 4, out + 16);
}

template <int size>
TW_INLINE void add_to_all(int8_t* quants, int number) {
    for (int i = 0; i < size; ++i) quants[i] = int8_t(quants[i] + number);
}

// Bit `shift` of each of 32 bytes is worth `value` in a quant.
TW_INLINE void add_bits(const uint8_t* packed, int shift, int value, int8_t* quants) {
    for (int i = 0; i < 32; ++i) quants[i] = int8_t(quants[i] | (packed[i] >> shift & 1) * value);
}

// 32 fifth bits in 4 bytes, then nibbles.
TW_INLINE void five_bits_of(const uint8_t* packed, int8_t* out) {
    uint32_t fifth;
    __builtin_memcpy(&fifth, packed, 4);
    nibbles_of(packed + 4, out);
    for (int i = 0; i < 32; ++i) out[i] = int8_t(out[i] | (fifth >> i & 1) << 4);
}

// Nibbles that index a table of levels.
TW_INLINE void levels_of(const uint8_t* packed, int8_t* out) {
    static constexpr int8_t levels[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
    for (int i = 0; i < 16; ++i) {
        out[i] = levels[packed[i] & 15];
        out[16 + i] = levels[packed[i] >> 4];
    }
}

// 64 bytes hold 256 weights of 2 bits: each 32 bytes four planes.
TW_INLINE void two_bits_of(const uint8_t* packed, int8_t* out) {
    for (int plane = 0; plane < 8; ++plane) bits_of<32>(packed + plane / 4 * 32, plane % 4 * 2, 2, out + 32 * plane);
}

// 128 bytes hold 256 weights of 4 bits: each 32 bytes two groups.
TW_INLINE void four_bits_of(const uint8_t* packed, int8_t* out) {
    for (int group = 0; group < 8; ++group) bits_of<32>(packed + group / 2 * 32, group % 2 * 4, 4, out + 32 * group);
}

// Two fp16, then eight scales and eight minima of 6 bits: four of each whole, four in pieces of 4 and 2 bits.
TW_INLINE void six_bit_scales(const uint8_t* block, Numbers& out) {
    const float scale = half_to_float(read16(block)), minimum = half_to_float(read16(block + 2));
    const uint8_t *first = block + 4, *second = block + 8, *pieces = block + 12;
    for (int i = 0; i < 4; ++i) {
        out.scale[i] = scale * float(first[i] & 63);
        out.minimum[i] = minimum * float(second[i] & 63);
        out.scale[4 + i] = scale * float((pieces[i] & 15) | first[i] >> 6 << 4);
        out.minimum[4 + i] = minimum * float(pieces[i] >> 4 | second[i] >> 6 << 4);
    }
}

template <Source source>
TW_INLINE void take_apart(const uint8_t* block, Numbers& out) {
    using enum Source;
    if constexpr (source == q8_0) {
        out.scale[0] = half_to_float(read16(block));
        __builtin_memcpy(out.quants, block + 2, 32);
    } else if constexpr (source == q4_0) {
        out.scale[0] = half_to_float(read16(block));
        nibbles_of(block + 2, out.quants);
        add_to_all<32>(out.quants, -8);
    } else if constexpr (source == q4_1) {
        out.scale[0] = half_to_float(read16(block));
        out.minimum[0] = -half_to_float(read16(block + 2));
        nibbles_of(block + 4, out.quants);
    } else if constexpr (source == q5_0) {
        out.scale[0] = half_to_float(read16(block));
        five_bits_of(block + 2, out.quants);
        add_to_all<32>(out.quants, -16);
    } else if constexpr (source == q5_1) {
        out.scale[0] = half_to_float(read16(block));
        out.minimum[0] = -half_to_float(read16(block + 2));
        five_bits_of(block + 4, out.quants);
    } else if constexpr (source == iq4_nl) {
        out.scale[0] = half_to_float(read16(block));
        levels_of(block + 2, out.quants);
    } else if constexpr (source == q2_k) {  // scales (low) and minima (high nibble), quants, fp16 for each
        const float scale = half_to_float(read16(block + 80)), minimum = half_to_float(read16(block + 82));
        for (int g = 0; g < 16; ++g) {
            out.scale[g] = scale * float(block[g] & 15);
            out.minimum[g] = minimum * float(block[g] >> 4);
        }
        two_bits_of(block + 16, out.quants);
    } else if constexpr (source == q3_k) {  // third bits, 2-bit quants, sixteen 6-bit scales in 12 bytes, fp16
        const float scale = half_to_float(read16(block + 108));
        const uint8_t *low = block + 96, *high = block + 104;
        for (int g = 0; g < 16; ++g) {
            const int four = g < 8 ? low[g] & 15 : low[g - 8] >> 4, two = high[g % 4] >> (g / 4 * 2) & 3;
            out.scale[g] = scale * float((four | two << 4) - 32);
        }
        two_bits_of(block + 32, out.quants);
        for (int g = 0; g < 8; ++g) add_bits(block, g, 4, out.quants + 32 * g);
        add_to_all<256>(out.quants, -4);
    } else if constexpr (source == q4_k) {
        six_bit_scales(block, out);
        four_bits_of(block + 16, out.quants);
    } else if constexpr (source == q5_k) {  // as q4_k, with 32 bytes of fifth bits before the nibbles
        six_bit_scales(block, out);
        four_bits_of(block + 48, out.quants);
        for (int g = 0; g < 8; ++g) add_bits(block + 16, g, 16, out.quants + 32 * g);
    } else if constexpr (source == q6_k) {  // nibbles, 2 high bits, sixteen int8 scales, fp16
        const float scale = half_to_float(read16(block + 208));
        for (int g = 0; g < 16; ++g) out.scale[g] = scale * float(int8_t(block[192 + g]));
        alignas(64) int8_t high[256];
        two_bits_of(block + 128, high);
        for (int part = 0; part < 4; ++part)
            bits_of<64>(block + part / 2 * 64, part % 2 * 4, 4, out.quants + 64 * part);
        for (int i = 0; i < 256; ++i) out.quants[i] = int8_t((out.quants[i] | high[i] << 4) - 32);
    } else if constexpr (source == q8_k) {  // a float for all
        float scale;
        __builtin_memcpy(&scale, block, 4);
        for (int g = 0; g < 8; ++g) out.scale[g] = scale;
        __builtin_memcpy(out.quants, block + 4, 256);
    } else if constexpr (source == iq4_xs) {  // fp16, eight 6-bit scales (2 high bits each, then 4 low bits), nibbles
        const float scale = half_to_float(read16(block));
        const int high = read16(block + 2);
        for (int g = 0; g < 8; ++g) {
            const int four = block[4 + g / 2] >> (g % 2 * 4) & 15, two = high >> (2 * g) & 3;
            out.scale[g] = scale * float((four | two << 4) - 32);
            levels_of(block + 8 + 16 * g, out.quants + 32 * g);
        }
    }
}

}  // namespace tokenworks
