// From the rows of a file to panels (layout.h), written once on sixteen lanes like kernels.inl: the lanes are a panel's
// sixteen rows. A weight that is not a number counts as nothing, so that no bytes of a file make paths differ.

constexpr int kChunkGroups = kLargestBlock / kGroup;

// Whole groups of sixteen rows on their way into a panel.
struct Chunk {
    alignas(64) uint8_t codes[kPanelRows][kLargestBlock];  // of each row, group after group: int8 or nibbles
    alignas(64) float scale[kChunkGroups][kPanelRows], least[kChunkGroups][kPanelRows];
};

template <Source source>  // 32 quants under one scale: 4 bits with or without a minimum, or 8 without
constexpr bool kKeepsQuants = source == Source::q8_0 || source == Source::q4_0 || source == Source::q4_1 ||
                              source == Source::q5_0 || source == Source::iq4_nl || source == Source::iq4_xs ||
                              source == Source::q4_k;

template <Source source>
constexpr Format kPanelFormat =
    source == Source::q4_0 || source == Source::q4_1 || source == Source::q4_k ? Format::q4 : Format::q8;

// `count` weights of one row, from its byte `from` on.
template <Source source>
TW_INLINE void floats_of(const uint8_t* from, int count, float* out) {
    if constexpr (source == Source::f32) {
        __builtin_memcpy(out, from, size_t(count) * 4);
    } else if constexpr (source == Source::f16 || source == Source::bf16) {
        uint16_t bits[kLargestBlock];
        __builtin_memcpy(bits, from, size_t(count) * 2);
        for (int i = 0; i < count; i += 16)
            store(out + i, source == Source::f16 ? load_half(bits + i) : load_bf16(bits + i));
    } else {
        constexpr Block block = block_of(source);
        for (int i = 0; i < count; i += block.weights, from += block.bytes) weights_of<source>(from, out + i);
    }
}

// Quants of one row as they are, and their scales, to the chunk's row `lane`.
template <Source source>
TW_INLINE void keep_quants(const uint8_t* from, int groups, int lane, Chunk& chunk) {
    constexpr Block block = block_of(source);
    constexpr int groups_of_block = block.weights / kGroup;
    Numbers numbers;
    for (int g = 0; g < groups; ++g) {
        const int part = g % groups_of_block;
        if (part == 0) take_apart<source>(from + g / groups_of_block * block.bytes, numbers);
        const int8_t* quants = numbers.quants + part * kGroup;
        chunk.scale[g][lane] = numbers.scale[part];
        if constexpr (kPanelFormat<source> == Format::q8) {
            int8_t* codes = (int8_t*)chunk.codes[lane] + g * kGroup;
            for (int i = 0; i < kGroup; ++i)  // -128, which no encoder emits, would be one too many for dot_q8
                codes[i] = source == Source::q8_0 && quants[i] == -128 ? -127 : quants[i];
        } else {
            uint8_t* codes = chunk.codes[lane] + g * (kGroup / 2);
            if constexpr (source == Source::q4_k)
                for (int i = 0; i < 16; ++i) codes[i] = uint8_t(quants[i] | quants[16 + i] << 4);
            else  // its nibbles lie in this order already, at the end of the block
                __builtin_memcpy(codes, from + (g + 1) * block.bytes - 16, 16);
            // Q4_0 is scale * (nibble - 8): a power of two times the scale, exact in fp16 unless it overflows.
            chunk.least[g][lane] = source == Source::q4_0 ? -8.0f * numbers.scale[0] : -numbers.minimum[part];
        }
    }
}

// One group of one row in int8 steps.
TW_INLINE void round_group(const float* x, float step, uint8_t* codes) {
    const Floats divisor = splat(step > 0.0f ? step : __builtin_inff()), most = splat(127.0f), least = splat(-127.0f);
    for (int i = 0; i < kGroup; i += 16) {
        const Floats steps = numbers_only(divide(load(x + i), divisor));
        store_bytes((int8_t*)codes + i, round_to_ints(minimum(maximum(steps, least), most)));
    }
}

// Floats of sixteen rows, rounded to groups of int8.
TW_INLINE void round_rows(const float (*x)[kLargestBlock], int rows, int groups, Chunk& chunk) {
    for (int g = 0; g < groups; ++g) {
        alignas(64) float largest[kPanelRows] = {}, step[kPanelRows];
        uint16_t half[kPanelRows];
        for (int r = 0; r < rows; ++r) {
            const float* group = x[r] + g * kGroup;
            largest[r] = max_lanes(maximum(absolute(numbers_only(load(group))), absolute(numbers_only(load(group + 16)))));
        }
        store(chunk.scale[g], divide(load(largest), splat(127.0f)));
        store_half(half, load(chunk.scale[g]));
        store(step, load_half(half));
        for (int r = 0; r < rows; ++r) round_group(x[r] + g * kGroup, step[r], chunk.codes[r] + g * kGroup);
    }
}

// The chunk's groups as the panel has them: four inputs of all rows, then the next four.
template <Format format>
TW_INLINE void put(const Chunk& chunk, int rows, int groups, uint8_t* out) {
    constexpr int code_bytes = format == Format::q4 ? kQ4Nibbles : kQ8Bytes, of_row = code_bytes / kPanelRows;
    for (int g = 0; g < groups; ++g) {
        for (int r = 0; r < rows; ++r)
            for (int c = 0; c < of_row / 4; ++c)
                __builtin_memcpy(out + 64 * c + 4 * r, chunk.codes[r] + g * of_row + 4 * c, 4);
        uint16_t half[2 * kPanelRows];
        store_half(half, numbers_only(load(chunk.scale[g])));
        if (format == Format::q4) store_half(half + kPanelRows, numbers_only(load(chunk.least[g])));
        constexpr int half_bytes = format == Format::q4 ? 4 * kPanelRows : 2 * kPanelRows;
        __builtin_memcpy(out + code_bytes, half, half_bytes);
        out += code_bytes + half_bytes;
    }
}

template <Source source>
static void pack_rows(const uint8_t* const* rows, int count, int inputs, uint8_t* out) {
    constexpr Block block = block_of(source);
    constexpr int group_bytes = kPanelFormat<source> == Format::q4 ? kQ4GroupBytes : kQ8GroupBytes;
    Chunk chunk;
    __builtin_memset(&chunk, 0, sizeof chunk);  // rows beyond the matrix stay zero
    for (int begin = 0; begin < inputs; begin += kLargestBlock) {
        const int width = inputs - begin < kLargestBlock ? inputs - begin : kLargestBlock, groups = width / kGroup;
        const size_t from = size_t(begin / block.weights) * block.bytes;
        if constexpr (kKeepsQuants<source>) {
            for (int r = 0; r < count; ++r) keep_quants<source>(rows[r] + from, groups, r, chunk);
        } else {
            alignas(64) float x[kPanelRows][kLargestBlock];
            for (int r = 0; r < count; ++r) floats_of<source>(rows[r] + from, width, x[r]);
            round_rows(x, count, groups, chunk);
        }
        put<kPanelFormat<source>>(chunk, count, groups, out);
        out += size_t(groups) * group_bytes;
    }
}

static void pack_panel(Source source, const uint8_t* const* rows, int count, int inputs, uint8_t* out) {
    using enum Source;
    switch (source) {
        case f32: return pack_rows<f32>(rows, count, inputs, out);
        case f16: return pack_rows<f16>(rows, count, inputs, out);
        case bf16: return pack_rows<bf16>(rows, count, inputs, out);
        case q8_0: return pack_rows<q8_0>(rows, count, inputs, out);
        case q4_0: return pack_rows<q4_0>(rows, count, inputs, out);
        case q4_1: return pack_rows<q4_1>(rows, count, inputs, out);
        case q5_0: return pack_rows<q5_0>(rows, count, inputs, out);
        case q5_1: return pack_rows<q5_1>(rows, count, inputs, out);
        case iq4_nl: return pack_rows<iq4_nl>(rows, count, inputs, out);
        case q2_k: return pack_rows<q2_k>(rows, count, inputs, out);
        case q3_k: return pack_rows<q3_k>(rows, count, inputs, out);
        case q4_k: return pack_rows<q4_k>(rows, count, inputs, out);
        case q5_k: return pack_rows<q5_k>(rows, count, inputs, out);
        case q6_k: return pack_rows<q6_k>(rows, count, inputs, out);
        case q8_k: return pack_rows<q8_k>(rows, count, inputs, out);
        case iq4_xs: return pack_rows<iq4_xs>(rows, count, inputs, out);
    }
}
