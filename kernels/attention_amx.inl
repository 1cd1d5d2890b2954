// Attention of many rows on the tile registers of Intel's AMX, after attention.inl and in its namespace: the same bits,
// since the order of additions is that of the tile instruction (attention.h). Pages are read where they are.

namespace tiles {

constexpr int kRows = 16;

// Tile registers: sums of four pages or of four times sixteen dimensions; then factors of whole and of half groups.
constexpr int kFactors = 4, kColumns = 5, kHalfFactors = 6, kHalfColumns = 7;

// As the processor reads it (Intel's manual, LDTILECFG).
struct alignas(64) Configuration {
    uint8_t palette = 1, start_row = 0, reserved[14] = {};
    uint16_t row_bytes[16] = {};
    uint8_t rows[16] = {};

    constexpr Configuration() {
        for (int i = 0; i <= kColumns; ++i) row_bytes[i] = 64, rows[i] = kRows;
        row_bytes[kHalfFactors] = 32, rows[kHalfFactors] = kRows;
        row_bytes[kHalfColumns] = 64, rows[kHalfColumns] = 8;
    }
};
constexpr Configuration kConfiguration;

template <int tile>
TW_INLINE void load(const void* from, size_t stride) {
    asm volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(from), "r"(stride), "i"(tile) : "memory");
}
template <int tile>
TW_INLINE void store(void* to, size_t stride) {
    asm volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(to), "r"(stride), "i"(tile) : "memory");
}
template <int tile>
TW_INLINE void clear() {
    asm volatile("tilezero %%tmm%c0" ::"i"(tile));
}
template <int sums, bool half>
TW_INLINE void add_group(const void* columns, size_t stride) {  // to sums, the loaded factors times these columns
    load<half ? kHalfColumns : kColumns>(columns, stride);
    asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(sums), "i"(half ? kHalfFactors : kFactors),
                 "i"(half ? kHalfColumns : kColumns));
}

// A group of dimensions of `Pages` pages' keys.
template <int Pages, bool half>
TW_INLINE void add_keys(const uint16_t* rows, int size, const uint16_t* const* keys, int d) {
    load<half ? kHalfFactors : kFactors>(rows + d, size_t(size) * sizeof(uint16_t));
    const size_t at = size_t(d) * kPageTokens, line = 2 * kPageTokens * sizeof(uint16_t);
    add_group<0, half>(keys[0] + at, line);
    if constexpr (Pages > 1) add_group<1, half>(keys[1] + at, line);
    if constexpr (Pages > 2) add_group<2, half>(keys[2] + at, line);
    if constexpr (Pages > 3) add_group<3, half>(keys[3] + at, line);
}

template <int Count>
TW_INLINE void clear_sums() {
    clear<0>();
    if constexpr (Count > 1) clear<1>();
    if constexpr (Count > 2) clear<2>();
    if constexpr (Count > 3) clear<3>();
}

template <int Count>
TW_INLINE void store_sums(float* to, size_t row_stride) {
    const size_t stride = row_stride * sizeof(float);
    store<0>(to, stride);
    if constexpr (Count > 1) store<1>(to + 16, stride);
    if constexpr (Count > 2) store<2>(to + 32, stride);
    if constexpr (Count > 3) store<3>(to + 48, stride);
}

template <int Pages>
static void score(const uint16_t* rows, const Seen& seen, int page, const StoredPages& pages, int size, float* scores) {
    for (; page + Pages <= seen.end; page += Pages) {
        const uint16_t* keys[Pages];
        for (int c = 0; c < Pages; ++c) keys[c] = pages.kv.keys(pages.table[page + c], pages.head);
        clear_sums<Pages>();
        int d = 0;
        for (; d + kDotGroup <= size; d += kDotGroup) add_keys<Pages, false>(rows, size, keys, d);
        if (d < size) add_keys<Pages, true>(rows, size, keys, d);
        store_sums<Pages>(scores + (page - seen.first_page) * kPageTokens, kTileStride);
    }
    if constexpr (Pages > 1) score<1>(rows, seen, page, pages, size, scores);
}

template <int Columns>  // of sixteen dimensions each, from `d` on
static void weighted_values(const uint16_t* weights, const Seen& seen, int d, const StoredPages& pages, int size,
                            float* parts) {
    for (; d + 16 * Columns <= size; d += 16 * Columns) {
        clear_sums<Columns>();
        for (int page = seen.begin; page < seen.end; ++page) {
            const uint16_t* values = pages.kv.values(pages.table[page], pages.head) + 2 * d;
            const size_t pair = size_t(2) * size * sizeof(uint16_t);
            load<kHalfFactors>(weights + (page - seen.first_page) * kPageTokens, kChunkTokens * sizeof(uint16_t));
            add_group<0, true>(values, pair);
            if constexpr (Columns > 1) add_group<1, true>(values + 32, pair);
            if constexpr (Columns > 2) add_group<2, true>(values + 64, pair);
            if constexpr (Columns > 3) add_group<3, true>(values + 96, pair);
        }
        store_sums<Columns>(parts + d, part_floats(size));
    }
    if constexpr (Columns > 1) weighted_values<1>(weights, seen, d, pages, size, parts);
}

static void attend_tile(const Query* queries, const uint16_t* rows, int chunk, const StoredPages& pages, int size,
                        float* scores, uint16_t* weights, float* parts) {
    const Seen seen = seen_by(queries, kRows, chunk);
    score<4>(rows, seen, seen.begin, pages, size, scores);
    mask(queries, kRows, seen, scores);
    weigh(kRows, seen, scores, size, parts, [&](int r, int t, Floats v) {
        __m256i narrow;  // as rounded_to_bf16, in one instruction
        asm("vcvtneps2bf16 %1, %0" : "=v"(narrow) : "v"(v));
        _mm256_storeu_si256((__m256i*)(weights + r * kChunkTokens + t), narrow);
    });
    weighted_values<4>(weights, seen, 0, pages, size, parts);
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
        asm volatile("ldtilecfg %0" ::"m"(tiles::kConfiguration));
        for (int chunk = begin; chunk < end; ++chunk) {
            float* to = chunk == begin ? parts : memory.chunk_parts;
            for (int i = 0; i < by_tiles; i += tiles::kRows)
                tiles::attend_tile(queries + i, rows + i * size, chunk, pages, size, memory.scores, weights,
                                   to + i * part_floats(size));
            for (int i = 0; i < by_tiles && chunk > begin; ++i)
                merge(parts + i * part_floats(size), to + i * part_floats(size), size);
        }
        asm volatile("tilerelease");  // so that the system need not save tiles when it switches threads
    }
    if (by_tiles < count)
        attend(queries + by_tiles, count - by_tiles, kv, kv_head, table, begin, end, scratch,
               parts + by_tiles * part_floats(size));
}
