// Attention over KV pages, written once on sixteen lanes like kernels.inl. See attention.h for the order of additions.
//
// Scores and weighted values are small matrix products: rows are queries, columns sixteen tokens of a page or sixteen
// dimensions of a head. A tile of sums stays in registers while one operand is broadcast from memory, the other loaded
// once for all of the tile's rows.

// Pages as they are stored.
struct StoredPages {
    const KeyValues& kv;
    int head;
    const int32_t* table;

    struct Keys {
        const uint16_t* at;
        TW_MEMBER Floats dimension(int d) const { return load_half(at + size_t(d) * kPageTokens); }
    };
    struct Values {
        const uint16_t* at;
        int size;
        TW_MEMBER Floats part(int token, int d) const { return load_half(at + size_t(token) * size + d); }
    };
    // Each page lies somewhere else, where no processor guesses.
    void fetch(int page) const {
        const char* at = (const char*)kv.keys(table[page], head);
        for (size_t line = 0; line < kv.head_stride() * sizeof(uint16_t); line += 64) __builtin_prefetch(at + line);
    }
    TW_MEMBER Keys keys(int page) const { return {kv.keys(table[page], head)}; }
    TW_MEMBER Values values(int page) const { return {kv.values(table[page], head), kv.head_dim}; }
};

// The pages of one chunk as floats in scratch memory.
struct StagedPages {
    float *all_keys, *all_values;
    int first, size;

    struct Keys {
        const float* at;
        TW_MEMBER Floats dimension(int d) const { return load(at + size_t(d) * kPageTokens); }
    };
    struct Values {
        const float* at;
        int size;
        TW_MEMBER Floats part(int token, int d) const { return load(at + size_t(token) * size + d); }
    };
    size_t offset(int page) const { return size_t(page - first) * kPageTokens * size; }
    TW_MEMBER Keys keys(int page) const { return {all_keys + offset(page)}; }
    TW_MEMBER Values values(int page) const { return {all_values + offset(page), size}; }

    // Pages [begin, end), of whose tokens those from `tokens` on were never written.
    void fill(const StoredPages& stored, int begin, int end, int tokens) const {
        for (int page = begin; page < end; ++page) {
            if (page + 1 < end) stored.fetch(page + 1);
            const auto keys = stored.keys(page);
            const auto values = stored.values(page);
            for (int d = 0; d < size; ++d) store(all_keys + offset(page) + size_t(d) * kPageTokens, keys.dimension(d));
            const int count = tokens - page * kPageTokens;
            for (int t = 0; t < kPageTokens && t < count; ++t)
                for (int d = 0; d < size; d += 16)
                    store(all_values + offset(page) + size_t(t) * size + d, values.part(t, d));
        }
    }
};

// sums[row][column] += rows[row][k] * column(k, c) for k in order.
template <int Rows, int Columns, class Load>
TW_INLINE void add_products(Floats (&sums)[Rows][Columns], const float* rows, int depth, Load column) {
    for (int k = 0; k < depth; ++k) {
        Floats columns[Columns];
#pragma GCC unroll 8
        for (int c = 0; c < Columns; ++c) columns[c] = column(k, c);
#pragma GCC unroll 12
        for (int r = 0; r < Rows; ++r) {
            const Floats x = splat(rows[r * kTileStride + k]);
#pragma GCC unroll 8
            for (int c = 0; c < Columns; ++c) sums[r][c] = fused(x, columns[c], sums[r][c]);
        }
    }
}

template <int Rows, int Columns>
TW_INLINE void clear(Floats (&sums)[Rows][Columns]) {
#pragma GCC unroll 12
    for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 8
        for (int c = 0; c < Columns; ++c) sums[r][c] = splat(0.0f);
}

// How many columns of sums fit in registers beside those of `rows` rows: a power of two.
constexpr int columns_beside(int rows) {
    int columns = 1;
    while (2 * columns * rows <= kSums && columns < 8) columns *= 2;
    return columns;
}

// The pages of one chunk that any query of a tile sees: tokens low…high - 1 of them.
struct Seen {
    int first_page, begin, end;  // of the chunk; pages in sight
    int low, high;

    bool none() const { return low >= high; }
};

static Seen seen_by(const Query* queries, int count, int chunk) {
    int low = queries[0].first, high = queries[0].last + 1;
    for (int i = 1; i < count; ++i) {
        if (queries[i].first < low) low = queries[i].first;
        if (queries[i].last >= high) high = queries[i].last + 1;
    }
    const int begin = chunk * kChunkTokens, end = begin + kChunkTokens;
    if (low < begin) low = begin;
    if (high > end) high = end;
    return {begin / kPageTokens, low / kPageTokens, (high + kPageTokens - 1) / kPageTokens, low, high};
}

// Scores of pages from `page` on, as many at once as fit in registers, and then fewer.
template <int Rows, int Columns, class Pages>
TW_INLINE void score(const float* rows, const Seen& seen, int page, const Pages& pages, int size, float* scores) {
    for (; page + Columns <= seen.end; page += Columns) {
        typename Pages::Keys keys[Columns];
#pragma GCC unroll 8
        for (int c = 0; c < Columns; ++c) keys[c] = pages.keys(page + c);
        Floats sums[Rows][Columns];
        clear(sums);
        for (int slab = 0; slab < size; slab += kChunkTokens)
            add_products(sums, rows + size_t(slab / kChunkTokens) * kQueryBlock * kTileStride,
                         size - slab < kChunkTokens ? size - slab : kChunkTokens,
                         [&](int k, int c) { return keys[c].dimension(slab + k); });
        float* to = scores + (page - seen.first_page) * kPageTokens;
#pragma GCC unroll 12
        for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 8
            for (int c = 0; c < Columns; ++c) store(to + r * kTileStride + c * kPageTokens, sums[r][c]);
    }
    if constexpr (Columns > 1) score<Rows, Columns / 2>(rows, seen, page, pages, size, scores);
}

// 2^x for x <= 0, as if x were -125 below that: an error of 2e-7 by a polynomial of degree 5 fitted to 2^x on ±1/2.
TW_INLINE Floats power_of_two_below_one(Floats x) {
    x = maximum(x, splat(-125.0f));
    const Floats shifted = add(x, splat(0x1.8p23f));  // rounds to a whole number
    const Floats r = subtract(x, subtract(shifted, splat(0x1.8p23f)));
    Floats p = splat(1.3276469e-3f);
    p = fused(p, r, splat(9.675541e-3f));
    p = fused(p, r, splat(5.5507135e-2f));
    p = fused(p, r, splat(2.402212e-1f));
    p = fused(p, r, splat(6.9314694e-1f));
    p = fused(p, r, splat(1.0f));
    return times_power(p, shifted);
}

TW_INLINE Floats only_seen(Floats v, const Query& query, int page, float other) {
    v = keep_first(v, query.last + 1 - page * kPageTokens, other);
    return keep_from(v, query.first - page * kPageTokens, other);
}

// One query's scores of a chunk to weights relative to the largest; both go into the part, behind its values.
static void weigh(const Query& query, const Seen& seen, float* scores, float* part) {
    int begin = query.first / kPageTokens, end = query.last / kPageTokens + 1;
    if (begin < seen.begin) begin = seen.begin;
    if (end > seen.end) end = seen.end;
    scores -= seen.first_page * kPageTokens;
    for (int page = seen.begin; page < seen.end; ++page)
        if (page < begin || page >= end) store(scores + page * kPageTokens, splat(0.0f));

    const float lowest = -__builtin_inff();
    Floats best = splat(lowest), total = splat(0.0f);
    for (int page = begin; page < end; ++page) {
        Floats v = load(scores + page * kPageTokens);
        if (page == begin || page == end - 1) v = only_seen(v, query, page, lowest);
        best = maximum(best, v);
    }
    const float top = max_lanes(best);
    for (int page = begin; page < end; ++page) {
        Floats v = power_of_two_below_one(subtract(load(scores + page * kPageTokens), splat(top)));
        if (page == begin || page == end - 1) v = only_seen(v, query, page, 0.0f);
        total = add(total, v);
        store(scores + page * kPageTokens, v);
    }
    part[0] = top;
    part[1] = sum_lanes(total);
}

// Weighted values of dimensions from `d` on, as many at once as fit in registers, and then fewer.
template <int Rows, int Columns, class Pages>
TW_INLINE void weighted_values(const float* weights, const Seen& seen, int d, const Pages& pages, int size, float* parts) {
    for (; d + 16 * Columns <= size; d += 16 * Columns) {
        Floats sums[Rows][Columns];
        clear(sums);
        for (int page = seen.begin; page < seen.end; ++page) {
            const auto values = pages.values(page);
            const int remaining = seen.high - page * kPageTokens;  // never past what was written
            add_products(sums, weights + (page - seen.first_page) * kPageTokens,
                         remaining < kPageTokens ? remaining : kPageTokens,
                         [&](int k, int c) { return values.part(k, d + 16 * c); });
        }
#pragma GCC unroll 12
        for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 8
            for (int c = 0; c < Columns; ++c) store(parts + size_t(r) * part_floats(size) + d + 16 * c, sums[r][c]);
    }
    if constexpr (Columns > 1) weighted_values<Rows, Columns / 2>(weights, seen, d, pages, size, parts);
}

template <int Rows, class Pages>
static void attend_tile(const Query* queries, const float* rows, int chunk, const Pages& pages, int size, float* scores,
                        float* parts) {
    const Seen seen = seen_by(queries, Rows, chunk);
    if (seen.none()) {
        for (int r = 0; r < Rows; ++r) parts[r * part_floats(size) + size_t(size) + 1] = 0.0f;
        return;
    }
    score<Rows, columns_beside(Rows)>(rows, seen, seen.begin, pages, size, scores);
    for (int r = 0; r < Rows; ++r)
        weigh(queries[r], seen, scores + r * kTileStride, parts + r * part_floats(size) + size);
    weighted_values<Rows, columns_beside(Rows)>(scores, seen, 0, pages, size, parts);
}

// All queries of a block, in tiles of as many rows as fit, and then smaller ones.
template <int Rows, class Pages>
static void attend_rows(const Query* queries, int row, int count, const float* rows, int chunk, const Pages& pages,
                        int size, float* scores, float* parts) {
    for (; row + Rows <= count; row += Rows)
        attend_tile<Rows>(queries + row, rows + row * kTileStride, chunk, pages, size, scores,
                          parts + row * part_floats(size));
    constexpr int fewer = Rows > 8 ? 8 : Rows > 4 ? 4 : Rows - 1;
    if constexpr (fewer > 0) attend_rows<fewer>(queries, row, count, rows, chunk, pages, size, scores, parts);
}

// Adds to a part the part of the tokens after it.
static void merge(float* part, const float* next, int size) {
    if (next[size + 1] == 0.0f) return;
    if (part[size + 1] == 0.0f) {
        __builtin_memcpy(part, next, part_floats(size) * sizeof(float));
        return;
    }
    const float top = part[size] > next[size] ? part[size] : next[size];
    const Floats old = power_of_two_below_one(splat(part[size] - top));
    const Floats fresh = power_of_two_below_one(splat(next[size] - top));
    for (int d = 0; d < size; d += 16) store(part + d, fused(load(part + d), old, multiply(load(next + d), fresh)));
    const Floats total = fused(splat(part[size + 1]), old, multiply(splat(next[size + 1]), fresh));
    float lanes[16];
    store(lanes, total);
    part[size] = top;
    part[size + 1] = lanes[0];
}

static void attend(const Query* queries, int count, const KeyValues& kv, int kv_head, const int32_t* table, int begin,
                   int end, float* scratch, float* parts) {
    const int size = kv.head_dim;
    const StoredPages stored{kv, kv_head, table};
    float* rows = scratch;
    float* scores = rows + size_t(size + kChunkTokens - 1) / kChunkTokens * kQueryBlock * kTileStride;
    float* chunk_parts = scores + kMostTileRows * kTileStride;
    float* staged_keys = chunk_parts + kQueryBlock * part_floats(size);
    for (int i = 0; i < count; ++i)
        for (int d = 0; d < size; d += 16) {
            const int slab = d / kChunkTokens;
            store(rows + (slab * kQueryBlock + i) * kTileStride + (d - slab * kChunkTokens),
                  multiply(load(queries[i].query + d), splat(1.44269504f)));  // weights are powers of two
        }
    for (int chunk = begin; chunk < end; ++chunk) {
        float* to = chunk == begin ? parts : chunk_parts;
        if (count > kTileRows) {
            const Seen seen = seen_by(queries, count, chunk);
            const StagedPages staged{staged_keys, staged_keys + kChunkTokens * size, seen.first_page, size};
            staged.fill(stored, seen.begin, seen.end, seen.high);
            attend_rows<kTileRows>(queries, 0, count, rows, chunk, staged, size, scores, to);
        } else {
            attend_rows<kTileRows>(queries, 0, count, rows, chunk, stored, size, scores, to);
        }
        for (int i = 0; i < count && chunk > begin; ++i)
            merge(parts + i * part_floats(size), to + i * part_floats(size), size);
    }
}

static void settle(const Query* queries, int count, float* parts, int stretches, int size) {
    for (int i = 0; i < count; ++i) {
        float* part = parts + i * part_floats(size);
        for (int s = 1; s < stretches; ++s) merge(part, part + s * count * part_floats(size), size);
        const Floats inverse = splat(1.0f / part[size + 1]);
        for (int d = 0; d < size; d += 16) store(queries[i].out + d, multiply(load(part + d), inverse));
    }
}
