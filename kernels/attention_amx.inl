// Attention of many rows on the tile registers of Intel's AMX, after attention.inl and in its namespace: the same bits,
// since the order of additions is that of the tile instruction (attention.h). Pages are read where they are.

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

// A group of dimensions of `Pages` pages' keys.
template <int Pages, bool half>
TW_INLINE void add_keys(const uint16_t* rows, int size, const uint16_t* const* keys, int d) {
    constexpr int factors = half ? kHalfFactors : kFactors, columns = half ? kHalfColumns : kColumns;
    load_tile<factors>(rows + d, size_t(size) * sizeof(uint16_t));
    each<Pages>([&](auto page) TW_LAMBDA {
        load_tile<columns>(keys[page] + size_t(d) * kPageTokens, kTileBytes);
        add_product_bf16<page, factors, columns>();
    });
}

template <int Pages>
static void score(const uint16_t* rows, const Seen& seen, int page, const StoredPages& pages, int size, float* scores) {
    for (; page + Pages <= seen.end; page += Pages) {
        const uint16_t* keys[Pages];
        for (int c = 0; c < Pages; ++c) keys[c] = pages.kv.keys(pages.table[page + c], pages.head);
        each<Pages>([&](auto c) TW_LAMBDA { zero_tile<c>(); });
        int d = 0;
        for (; d + kDotGroup <= size; d += kDotGroup) add_keys<Pages, false>(rows, size, keys, d);
        if (d < size) add_keys<Pages, true>(rows, size, keys, d);
        float* to = scores + (page - seen.first_page) * kPageTokens;
        each<Pages>([&](auto c) TW_LAMBDA { store_tile<c>(to + c * kPageTokens, kTileStride * sizeof(float)); });
    }
    if constexpr (Pages > 1) score<1>(rows, seen, page, pages, size, scores);
}

template <int Columns>  // of sixteen dimensions each, from `d` on
static void weighted_values(const uint16_t* weights, const Seen& seen, int d, const StoredPages& pages, int size,
                            float* parts) {
    for (; d + 16 * Columns <= size; d += 16 * Columns) {
        each<Columns>([&](auto c) TW_LAMBDA { zero_tile<c>(); });
        for (int page = seen.begin; page < seen.end; ++page) {
            const uint16_t* values = pages.kv.values(pages.table[page], pages.head) + 2 * d;
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

static void attend_tile(const Query* queries, const uint16_t* rows, int chunk, const StoredPages& pages, int size,
                        float* scores, uint16_t* weights, float* parts) {
    const Seen seen = seen_by(queries, kRows, chunk);
    score<kAtOnce>(rows, seen, seen.begin, pages, size, scores);
    mask(queries, kRows, seen, scores);
    weigh(kRows, seen, scores, size, parts, [&](int r, int t, Floats v) {
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
        const StoredPages pages{kv, kv_head, table};
        const AttentionMemory memory(scratch, size);
        uint16_t* rows = (uint16_t*)memory.rows;
        uint16_t* weights = (uint16_t*)memory.staged_keys;
        for (int i = 0; i < by_tiles; ++i)
            for (int d = 0; d < size; d += 16)
                for (int j = d; j < d + 16; ++j) rows[i * size + j] = float_to_factor(queries[i].query[j] * kLog2E);
        amx::configure_tiles(tiles::kConfiguration);
        for (int chunk = begin; chunk < end; ++chunk) {
            float* to = chunk == begin ? parts : memory.chunk_parts;
            for (int i = 0; i < by_tiles; i += tiles::kRows)
                tiles::attend_tile(queries + i, rows + i * size, chunk, pages, size, memory.scores, weights,
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
