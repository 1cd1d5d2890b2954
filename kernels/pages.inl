// Writes and reads KV pages (pages.h), on sixteen lanes like kernels.inl.

// Where one KV head's part of a sequence's pages is stored.
struct HeadPages {
    const KeyValues& kv;
    int head;
    const int32_t* table;

    bool scaled() const { return kv.format == KvFormat::int8; }
    TW_MEMBER Floats key_scales(int page) const { return load_bf16(kv.key_scales(table[page], head)); }
    TW_MEMBER Floats value_scales(int page) const { return load_bf16(kv.value_scales(table[page], head)); }
    // Each page lies somewhere else, where no processor guesses.
    void fetch(int page) const {
        const uint8_t* at = kv.part(table[page], head);
        for (size_t line = 0; line < kv.head_bytes(); line += 64) __builtin_prefetch(at + line);
    }
};

// What rows and columns are while they are multiplied: floats, a place at a time. Every factor is a bf16's value.
struct FloatFactors {
    static constexpr int kPlaces = 1;  // of a chain, that one step takes
    TW_MEMBER static Floats add_product(const float* factor, Floats column, Floats sum) {
        return fused(splat(*factor), column, sum);
    }
    // A row's sixteen factors from `place` on.
    TW_MEMBER static void put(float* row, int place, Floats sixteen) { store(row + place, sixteen); }
    // Step `j` of a chain, for sixteen columns.
    template <int place, class Pairs>
    TW_MEMBER static Floats column(const Pairs& from, int j) {
        return from.template at<place>(j);
    }
};

// Pages of bf16. `at` gives sixteen columns of the pair `j`, its even or its odd place.
struct StoredPages : HeadPages {
    using Factors = FloatFactors;
    struct Pairs {
        const uint16_t* first;
        size_t stride;
        template <int place>
        TW_MEMBER Floats at(int j) const {
            return place == 0 ? load_even(first + size_t(j) * stride) : load_odd(first + size_t(j) * stride);
        }
    };
    TW_MEMBER Pairs keys(int page) const { return {kv.keys(table[page], head), 2 * kPageTokens}; }
    TW_MEMBER Pairs values(int page, int d) const {
        return {kv.values(table[page], head) + 2 * d, size_t(2) * kv.head_dim};
    }
};

// Pages of int8, a pair's places in two rows of codes.
struct CodePages : HeadPages {
    using Factors = FloatFactors;
    struct Pairs {
        const int8_t* first;
        size_t stride;
        template <int place>
        TW_MEMBER Floats at(int j) const { return to_floats(load_bytes(first + size_t(2 * j + place) * stride)); }
    };
    TW_MEMBER Pairs keys(int page) const { return {kv.key_codes(table[page], head), kPageTokens}; }
    TW_MEMBER Pairs values(int page, int d) const {
        return {kv.value_codes(table[page], head) + d, size_t(kv.head_dim)};
    }
};

// The pages of one chunk in scratch memory, both chains' steps in two rows of sixteen columns.
template <class Kind>
struct StagedPages {
    using Factors = Kind;
    float *all_keys, *all_values;
    int first, size;

    struct Pairs {
        const float* first;
        template <int place>
        TW_MEMBER Floats at(int j) const { return load(first + size_t(j) * 32 + place * 16); }
    };
    size_t offset(int page) const { return size_t(page - first) * kPageTokens * size / Factors::kPlaces; }
    TW_MEMBER Pairs keys(int page) const { return {all_keys + offset(page)}; }
    TW_MEMBER Pairs values(int page, int d) const {
        return {all_values + offset(page) + d * kPageTokens / Factors::kPlaces};
    }

    template <class Pages>
    void fill(const Pages& stored, int begin, int end) const {
        for (int page = begin; page < end; ++page) {
            if (page + 1 < end) stored.fetch(page + 1);
            copy(stored.keys(page), all_keys + offset(page), size / 2);
            for (int d = 0; d < size; d += 16)
                copy(stored.values(page, d), all_values + offset(page) + d * kPageTokens / Factors::kPlaces, kPageTokens / 2);
        }
    }
    template <class StoredPairs>
    TW_MEMBER static void copy(const StoredPairs& from, float* to, int pairs) {
        for (int j = 0; j < pairs; j += Factors::kPlaces, to += 32) {
            store(to, Factors::template column<0>(from, j));
            store(to + 16, Factors::template column<1>(from, j));
        }
    }
};

// How a token's key or value becomes codes.
struct Coding {
    uint16_t scale;  // bf16
    float inverse;

    Coding(const float* x, int size) : scale(0), inverse(0.0f) {
        Floats most = splat(0.0f);
        for (int d = 0; d < size; d += 16) most = maximum(most, absolute(load(x + d)));
        const float largest = max_lanes(most);
        if (!(largest >= kLeastFactor)) return;
        scale = uint16_t((float_to_bits(largest / 127.0f) + 0xFFFF) >> 16);  // upwards: no code is beyond 127
        inverse = 1.0f / bf16_to_float(scale);
    }
    TW_MEMBER void codes(const float* x, int8_t* to) const {  // sixteen
        store_bytes(to, round_to_ints(multiply(load(x), splat(inverse))));
    }
};

static void store_key(const float* key, const KeyValues& kv, int page, int head, int slot) {
    if (kv.format == KvFormat::int8) {
        const Coding coding(key, kv.head_dim);
        kv.key_scales(page, head)[slot] = coding.scale;
        int8_t codes[16], *out = kv.key_codes(page, head) + slot;
        for (int d = 0; d < kv.head_dim; d += 16) {
            coding.codes(key + d, codes);
            for (int i = 0; i < 16; ++i, out += kPageTokens) *out = codes[i];
        }
        return;
    }
    uint16_t* out = kv.keys(page, head) + 2 * slot;
    for (int d = 0; d < kv.head_dim; d += 2, out += 2 * kPageTokens) {
        out[0] = float_to_factor(key[d]);
        out[1] = float_to_factor(key[d + 1]);
    }
}

static void store_value(const float* value, int first, int count, const KeyValues& kv, int page, int head, int slot,
                        bool clear_after) {
    if (kv.format == KvFormat::int8) {
        const Coding coding(value, kv.head_dim);
        uint16_t* scales = kv.value_scales(page, head);
        scales[slot] = coding.scale;
        int8_t* out = kv.value_codes(page, head) + size_t(slot) * kv.head_dim;
        for (int d = 0; d < kv.head_dim; d += 16) coding.codes(value + d, out + d);
        for (int later = slot + 1; clear_after && later < kPageTokens; ++later) scales[later] = 0;
        return;
    }
    uint16_t* out = kv.values(page, head) + 2 * first;
    const size_t pair_stride = size_t(2) * kv.head_dim;
    uint16_t* own = out + slot / 2 * pair_stride + slot % 2;
    for (int d = 0; d < count; ++d) own[2 * d] = float_to_factor(value[d]);
    if (!clear_after) return;
    if (slot % 2 == 0)
        for (int d = 0; d < count; ++d) own[2 * d + 1] = 0;
    for (int pair = slot / 2 + 1; pair < kPageTokens / 2; ++pair)
        __builtin_memset(out + pair * pair_stride, 0, size_t(2 * count) * sizeof(uint16_t));
}
