// Attention of many rows on the tile registers of Intel's AMX, after attention.inl and in its namespace: the same bits,
// since the order of additions is that of the tile instruction (attention.h). Pages of bf16 are read where they are; those
// of int8 become such pages in scratch memory, without their scales, once for all tiles of rows.

namespace tiles {

using namespace amx;

constexpr int kRows = 16;
constexpr int kAtOnce = 4;  // sums: of so many pages, or of so many times sixteen dimensions
// Tile registers behind the sums: factors of a row and columns of a page, for whole groups and for half ones.
constexpr int kFactors = 4, kColumns = 5, kHalfFactors = 6, kHalfColumns = 7;

constexpr TileConfiguration kConfiguration = [] {
    TileConfiguration all;
    for (int tile = 0; tile < kAtOnce; ++tile) all.set(tile, kRows, kTileBytes);
    all.set(kFactors, kRows, kDotGroup * sizeof(uint16_t));
    all.set(kColumns, kDotGroup / 2, kTileBytes);
    all.set(kHalfFactors, kRows, kPageTokens * sizeof(uint16_t));
    all.set(kHalfColumns, kPageTokens / 2, kTileBytes);
    return all;
}();

// Pages of bf16; `table` begins with page `first`.
struct Pages {
    KeyValues kv;
    int head;
    const int32_t* table;
    int first;

    const uint16_t* keys(int page) const { return kv.keys(table[page - first], head); }
    const uint16_t* values(int page) const { return kv.values(table[page - first], head); }
};

// Two rows of sixteen codes as sixteen pairs of bf16: exact, and in the upper half of their floats.
TW_INLINE void pair(const int8_t* even, const int8_t* odd, uint16_t* to) {
    const __m512i a = _mm512_castps_si512(to_floats(load_bytes(even))), b = _mm512_castps_si512(to_floats(load_bytes(odd)));
    _mm512_storeu_si512(to, _mm512_or_si512(_mm512_srli_epi32(a, 16), b));
}

// The codes of what is seen of a chunk, as pages in their order in `memory`.
static Pages staged(const HeadPages& stored, const Seen& seen, uint16_t* memory) {
    static constexpr int32_t order[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    static_assert(sizeof order / sizeof *order == kChunkTokens / kPageTokens);
    const int size = stored.kv.head_dim;
    const size_t bytes = head_page_bytes(KvFormat::bf16, size);
    const KeyValues to{(uint8_t*)memory, bytes, size, KvFormat::bf16};
    for (int page = seen.begin; page < seen.end; ++page) {
        if (page + 1 < seen.end) stored.fetch(page + 1);
        const int8_t* keys = stored.kv.key_codes(stored.table[page], stored.head);
        uint16_t* key_pairs = to.keys(page - seen.first_page, 0);
        for (int d = 0; d < size; d += 2, key_pairs += 2 * kPageTokens)
            pair(keys + d * kPageTokens, keys + (d + 1) * kPageTokens, key_pairs);
        const int8_t* values = stored.kv.value_codes(stored.table[page], stored.head);
        uint16_t* value_pairs = to.values(page - seen.first_page, 0);
        for (int token = 0; token < kPageTokens; token += 2, values += 2 * size, value_pairs += 2 * size)
            for (int d = 0; d < size; d += 16) pair(values + d, values + size + d, value_pairs + 2 * d);
    }
    return {to, 0, order, seen.first_page};
}

// A group of dimensions of `Count` pages' keys.
template <int Count, bool half>
TW_INLINE void add_keys(const uint16_t* rows, int size, const uint16_t* const* keys, int d) {
    constexpr int factors = half ? kHalfFactors : kFactors, columns = half ? kHalfColumns : kColumns;
    load_tile<factors>(rows + d, size_t(size) * sizeof(uint16_t));
    each<Count>([&](auto page) TW_LAMBDA {
        load_tile<columns>(keys[page] + size_t(d) * kPageTokens, kTileBytes);
        add_product_bf16<page, factors, columns>();
    });
}

template <int Count>
static void score(const uint16_t* rows, const Seen& seen, int page, const Pages& pages, int size, float* scores) {
    for (; page + Count <= seen.end; page += Count) {
        const uint16_t* keys[Count];
        for (int c = 0; c < Count; ++c) keys[c] = pages.keys(page + c);
        each<Count>([&](auto c) TW_LAMBDA { zero_tile<c>(); });
        int d = 0;
        for (; d + kDotGroup <= size; d += kDotGroup) add_keys<Count, false>(rows, size, keys, d);
        if (d < size) add_keys<Count, true>(rows, size, keys, d);
        float* to = scores + (page - seen.first_page) * kPageTokens;
        each<Count>([&](auto c) TW_LAMBDA { store_tile<c>(to + c * kPageTokens, kTileStride * sizeof(float)); });
    }
    if constexpr (Count > 1) score<1>(rows, seen, page, pages, size, scores);
}

template <int Columns>  // of sixteen dimensions each, from `d` on
static void weighted_values(const uint16_t* weights, const Seen& seen, int d, const Pages& pages, int size,
                            float* parts) {
    for (; d + 16 * Columns <= size; d += 16 * Columns) {
        each<Columns>([&](auto c) TW_LAMBDA { zero_tile<c>(); });
        for (int page = seen.begin; page < seen.end; ++page) {
            const uint16_t* values = pages.values(page) + 2 * d;
            load_tile<kHalfFactors>(weights + (page - seen.first_page) * kPageTokens, kChunkTokens * sizeof(uint16_t));
            each<Columns>([&](auto c) TW_LAMBDA {
                load_tile<kHalfColumns>(values + 32 * c, size_t(2) * size * sizeof(uint16_t));
                add_product_bf16<c, kHalfFactors, kHalfColumns>();
            });
        }
        each<Columns>([&](auto c) TW_LAMBDA { store_tile<c>(parts + d + 16 * c, part_floats(size) * sizeof(float)); });
    }
    if constexpr (Columns > 1) weighted_values<1>(weights, seen, d, pages, size, parts);
}

static void attend_tile(const Query* queries, const uint16_t* rows, int chunk, const HeadPages& stored, const Pages& pages,
                        int size, float* scores, uint16_t* weights, float* parts) {
    const Seen seen = seen_by(queries, kRows, chunk);
    const bool scaled = stored.scaled();
    score<kAtOnce>(rows, seen, seen.begin, pages, size, scores);
    if (scaled) scale_scores(kRows, seen, stored, scores);
    mask(queries, kRows, seen, scores);
    weigh(kRows, seen, scores, size, parts, [&](int r, int t, Floats v) {
        if (scaled) v = multiply(v, stored.value_scales(seen.first_page + t / kPageTokens));
        __m256i narrow;  // as rounded_to_bf16, in one instruction
        asm("vcvtneps2bf16 %1, %0" : "=v"(narrow) : "v"(v));
        _mm256_storeu_si256((__m256i*)(weights + r * kChunkTokens + t), narrow);
    });
    weighted_values<kAtOnce>(weights, seen, 0, pages, size, parts);
}

}  // namespace tiles

static void attend_by_tiles(const Query* queries, int count, const KeyValues& kv, int kv_head, const int32_t* table,
                            int begin, int end, float* scratch, float* parts) {
    const int size = kv.head_dim, by_tiles = count / tiles::kRows * tiles::kRows;
    if (by_tiles > 0) {
        const HeadPages stored{kv, kv_head, table};
        const AttentionMemory memory(scratch, size);
        uint16_t* rows = (uint16_t*)memory.rows;
        uint16_t* weights = (uint16_t*)memory.staged_values;
        tiles::Pages pages{kv, kv_head, table, 0};
        for (int i = 0; i < by_tiles; ++i)
            for (int d = 0; d < size; d += 16)
                for (int j = d; j < d + 16; ++j) rows[i * size + j] = float_to_factor(queries[i].query[j] * kLog2E);
        amx::configure_tiles(tiles::kConfiguration);
        for (int chunk = begin; chunk < end; ++chunk) {
            float* to = chunk == begin ? parts : memory.chunk_parts;
            if (stored.scaled())
                pages = tiles::staged(stored, seen_by(queries, by_tiles, chunk), (uint16_t*)memory.staged_keys);
            for (int i = 0; i < by_tiles; i += tiles::kRows)
                tiles::attend_tile(queries + i, rows + i * size, chunk, stored, pages, size, memory.scores, weights,
                                   to + i * part_floats(size));
            for (int i = 0; i < by_tiles && chunk > begin; ++i)
                merge(parts + i * part_floats(size), to + i * part_floats(size), size);
        }
        amx::release_tiles();
    }
    if (by_tiles < count)
        attend(queries + by_tiles, count - by_tiles, kv, kv_head, table, begin, end, scratch,
               parts + by_tiles * part_floats(size));
}
