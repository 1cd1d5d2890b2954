// From the rows of a file to panels (layout.h), written once on sixteen lanes like kernels.inl: the lanes are a panel's
// sixteen rows. A weight that is not a number counts as nothing, so that no bytes of a file make paths differ.

constexpr int kChunkGroups = kLargestBlock / kGroup;

// Whole groups of sixteen rows on their way into a panel.
struct Chunk {
    alignas(64) uint8_t codes[kPanelRows][kLargestBlock];  // of each row, group after group: int8 or nibbles
    alignas(64) float scale[kChunkGroups][kPanelRows], least[kChunkGroups][kPanelRows];
};

template <Source source>  // 32 quants under one scale: 4 bits with or without a minimum, or 6 or 8 without
constexpr bool kKeepsQuants = source == Source::q8_0 || source == Source::q4_0 || source == Source::q4_1 ||
                              source == Source::q5_0 || source == Source::iq4_nl || source == Source::iq4_xs ||
                              source == Source::q4_k;

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
        if constexpr (own_format(source) > Format::q4) {
            int8_t* codes = (int8_t*)chunk.codes[lane] + g * kGroup;
            for (int i = 0; i < kGroup; ++i)  // -128, which no encoder emits, would be one too many for dot_q8
                codes[i] = source == Source::q8_0 && quants[i] == -128 ? -127 : quants[i];
        } else {
            uint8_t* codes = chunk.codes[lane] + g * (kGroup / 2);
            if constexpr (source == Source::q4_k)
                for (int i = 0; i < 16; ++i) codes[i] = uint8_t(quants[i] | quants[16 + i] << 4);
            else  // its nibbles lie in this order already, at the end of the block
                __builtin_memcpy(codes, from + (g + 1) * block.bytes - 16, 16);
            // Q4_0 is scale * (nibble - 8), and where minima are wanted, that times the scale is exact in fp16.
            chunk.least[g][lane] = source == Source::q4_0 ? -8.0f * numbers.scale[0] : -numbers.minimum[part];
        }
    }
}

TW_INLINE Ints steps_of(Floats x, float step, float least, float most) {
    const Floats steps = numbers_only(divide(x, splat(step != 0.0f ? step : __builtin_inff())));
    return round_to_ints(minimum(maximum(steps, splat(least)), splat(most)));
}

TW_INLINE float sum_of(Floats a, Floats b) { return sum_lanes(add(a, b)); }

// A group of one row, and how much the square of each weight's error counts.
struct Group { Floats a, b, a_counts, b_counts; };

TW_INLINE float counted_sum(const Group& group, Floats a, Floats b) {
    return sum_of(multiply(a, group.a_counts), multiply(b, group.b_counts));
}

// Sixteen rows' groups in steps of -127 … 127.
static void round_q8(const float (*x)[kLargestBlock], int rows, int groups, Chunk& chunk) {
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
        for (int r = 0; r < rows; ++r)
            for (int i = 0; i < kGroup; i += 16)
                store_bytes((int8_t*)chunk.codes[r] + g * kGroup + i, steps_of(load(x[r] + g * kGroup + i), step[r], -127, 127));
    }
}

// One group of one row in steps of -32 … 31. Of five steps around the one that makes the largest weight -32, the one whose codes come nearest
// to the weights at their best scale, sum(weight * code) / sum(code * code): the larger sum(weight * code)^2 /
// sum(code * code), the smaller the squared error.
static void round_q6(const Group& group, int8_t* codes, float& scale) {
    const Floats a = group.a, b = group.b;
    const float size = max_lanes(maximum(absolute(a), absolute(b))) + 0.0f;  // no negative zero
    const float largest = max_lanes(maximum(a, b)) == size ? size : -size;
    float best = 0.0f;
    scale = largest / -32.0f;
    __builtin_memset(codes, 0, kGroup);
    for (int parts = 30; parts <= 34; ++parts) {
        const float step = largest / float(-parts);
        const Ints first = steps_of(a, step, -32, 31), second = steps_of(b, step, -32, 31);
        const Floats p = to_floats(first), q = to_floats(second);
        const float with_weights = counted_sum(group, multiply(a, p), multiply(b, q));
        const float squares = counted_sum(group, multiply(p, p), multiply(q, q));
        const float fit = with_weights * with_weights / squares;
        if (!(fit > best)) continue;
        best = fit;
        scale = with_weights / squares;
        store_bytes(codes, first);
        store_bytes(codes + 16, second);
    }
}

// One group of one row in steps of 0 … 15 above a minimum. Tried are the whole range and, by least squares, what codes of slightly narrower
// ranges would have as scale and minimum: rounding the outermost weights inwards is often the smaller error.
static void round_q4(const Group& group, uint8_t* codes, float& scale, float& least) {
    const Floats a = group.a, b = group.b;
    // Which of two zeros their maximum is differs between processors; with 0 added, it is the positive one.
    const float low = 0.0f - max_lanes(maximum(subtract(splat(0.0f), a), subtract(splat(0.0f), b)));
    const float width = max_lanes(maximum(a, b)) + 0.0f - low;
    const float sum = counted_sum(group, a, b), counts = sum_of(group.a_counts, group.b_counts);
    float best = __builtin_inff();
    scale = width / 15.0f, least = low;
    __builtin_memset(codes, 0, kGroup / 2);
    for (int candidate = 0; candidate < 4; ++candidate) {
        const float parts = candidate == 2 ? 15.7f : candidate == 3 ? 16.4f : 15.0f;
        float step = width / parts, from = low + (width - 15.0f * step) / 2.0f;
        if (candidate > 0) {
            const Floats p = to_floats(steps_of(subtract(a, splat(from)), step, 0, 15));
            const Floats q = to_floats(steps_of(subtract(b, splat(from)), step, 0, 15));
            const float codes_sum = counted_sum(group, p, q);
            const float squares = counted_sum(group, multiply(p, p), multiply(q, q));
            const float with_weights = counted_sum(group, multiply(a, p), multiply(b, q));
            const float spread = counts * squares - codes_sum * codes_sum;
            if (!(spread > 0.0f)) continue;
            step = (counts * with_weights - codes_sum * sum) / spread;
            from = (sum - step * codes_sum) / counts;
        }
        step = half_to_float(float_to_half(step)), from = half_to_float(float_to_half(from));
        const Ints first = steps_of(subtract(a, splat(from)), step, 0, 15);
        const Ints second = steps_of(subtract(b, splat(from)), step, 0, 15);
        const Floats p = subtract(a, add(multiply(splat(step), to_floats(first)), splat(from)));
        const Floats q = subtract(b, add(multiply(splat(step), to_floats(second)), splat(from)));
        const float error = counted_sum(group, multiply(p, p), multiply(q, q));
        if (!(error < best)) continue;
        best = error;
        scale = step, least = from;
        int8_t bytes[kGroup];
        store_bytes(bytes, first);
        store_bytes(bytes + 16, second);
        for (int i = 0; i < kGroup / 2; ++i) codes[i] = uint8_t(bytes[i] | bytes[16 + i] << 4);
    }
}

// Floats of sixteen rows, rounded to groups of a format. `counts`: how much each input's error counts.
static void round_rows(const float (*x)[kLargestBlock], const float* counts, Format format, int rows, int groups, Chunk& chunk) {
    if (format == Format::q8) return round_q8(x, rows, groups, chunk);
    for (int g = 0; g < groups; ++g)
        for (int r = 0; r < rows; ++r) {
            const float *from = x[r] + g * kGroup, *count = counts + g * kGroup;
            const Group group = {numbers_only(load(from)), numbers_only(load(from + 16)), load(count), load(count + 16)};
            if (format == Format::q4)
                round_q4(group, chunk.codes[r] + g * (kGroup / 2), chunk.scale[g][r], chunk.least[g][r]);
            else
                round_q6(group, (int8_t*)chunk.codes[r] + g * kGroup, chunk.scale[g][r]);
        }
}

// Codes of one group and row to its places in a Q6 group.
TW_INLINE void put_q6(const uint8_t* quants, uint8_t* out) {
    for (int c = 0; c < 6; ++c)
        for (int i = 0; i < 4; ++i) {
            const int code = quants[4 * c + i] + 32, other = quants[24 + 4 * (c / 3) + i] + 32;
            out[64 * c + i] = uint8_t((code & 63) | (other & 63) >> 2 * (c % 3) << 6);
        }
}

// The chunk's groups as the panel has them: four inputs of all rows, then the next four.
template <Format format>
TW_INLINE void put(const Chunk& chunk, int rows, int groups, uint8_t* out) {
    constexpr int code_bytes = code_bytes_of(format), of_row = format <= Format::q4 ? kGroup / 2 : kGroup;
    for (int g = 0; g < groups; ++g) {
        for (int r = 0; r < rows; ++r) {
            const uint8_t* codes = chunk.codes[r] + g * of_row;
            if constexpr (format == Format::q6)
                put_q6(codes, out + 4 * r);
            else
                for (int c = 0; c < of_row / 4; ++c) __builtin_memcpy(out + 64 * c + 4 * r, codes + 4 * c, 4);
        }
        uint16_t half[2 * kPanelRows];
        store_half(half, numbers_only(load(chunk.scale[g])));
        if (format == Format::q4) store_half(half + kPanelRows, numbers_only(load(chunk.least[g])));
        constexpr int half_bytes = format == Format::q4 ? 4 * kPanelRows : 2 * kPanelRows;
        __builtin_memcpy(out + code_bytes, half, half_bytes);
        out += code_bytes + half_bytes;
    }
}

template <Source source>
static void pack_rows(Format format, const uint8_t* const* rows, const float* importance, int count, int inputs,
                      uint8_t* out) {
    constexpr Block block = block_of(source);
    alignas(64) float ones[kLargestBlock];
    for (float& one : ones) one = 1.0f;
    Chunk chunk;
    __builtin_memset(&chunk, 0, sizeof chunk);  // rows beyond the matrix stay zero
    for (int begin = 0; begin < inputs; begin += kLargestBlock) {
        const int width = inputs - begin < kLargestBlock ? inputs - begin : kLargestBlock, groups = width / kGroup;
        const size_t from = size_t(begin / block.weights) * block.bytes;
        bool kept = false;
        if constexpr (kKeepsQuants<source>)
            if (format == own_format(source) || (source == Source::q4_0 && format == Format::q4)) {
                for (int r = 0; r < count; ++r) keep_quants<source>(rows[r] + from, groups, r, chunk);
                kept = true;
            }
        if (!kept) {
            alignas(64) float x[kPanelRows][kLargestBlock];
            for (int r = 0; r < count; ++r) floats_of<source>(rows[r] + from, width, x[r]);
            round_rows(x, importance ? importance + begin : ones, format, count, groups, chunk);
        }
        switch (format) {
            case Format::q4_centred: put<Format::q4_centred>(chunk, count, groups, out); break;
            case Format::q4: put<Format::q4>(chunk, count, groups, out); break;
            case Format::q6: put<Format::q6>(chunk, count, groups, out); break;
            default: put<Format::q8>(chunk, count, groups, out); break;
        }
        out += size_t(groups) * group_bytes_of(format);
    }
}

static void pack_panel(Source source, Format format, const uint8_t* const* rows, const float* importance, int count,
                       int inputs, uint8_t* out) {
    using enum Source;
    switch (source) {
        case f32: return pack_rows<f32>(format, rows, importance, count, inputs, out);
        case f16: return pack_rows<f16>(format, rows, importance, count, inputs, out);
        case bf16: return pack_rows<bf16>(format, rows, importance, count, inputs, out);
        case q8_0: return pack_rows<q8_0>(format, rows, importance, count, inputs, out);
        case q4_0: return pack_rows<q4_0>(format, rows, importance, count, inputs, out);
        case q4_1: return pack_rows<q4_1>(format, rows, importance, count, inputs, out);
        case q5_0: return pack_rows<q5_0>(format, rows, importance, count, inputs, out);
        case q5_1: return pack_rows<q5_1>(format, rows, importance, count, inputs, out);
        case iq4_nl: return pack_rows<iq4_nl>(format, rows, importance, count, inputs, out);
        case q2_k: return pack_rows<q2_k>(format, rows, importance, count, inputs, out);
        case q3_k: return pack_rows<q3_k>(format, rows, importance, count, inputs, out);
        case q4_k: return pack_rows<q4_k>(format, rows, importance, count, inputs, out);
        case q5_k: return pack_rows<q5_k>(format, rows, importance, count, inputs, out);
        case q6_k: return pack_rows<q6_k>(format, rows, importance, count, inputs, out);
        case q8_k: return pack_rows<q8_k>(format, rows, importance, count, inputs, out);
        case iq4_xs: return pack_rows<iq4_xs>(format, rows, importance, count, inputs, out);
    }
}
