// Attention over KV pages, written once on sixteen lanes like kernels.inl. See attention.h for the order of additions.
//
// Scores and weighted values are small matrix products: rows are queries, columns sixteen tokens of a page or sixteen
// dimensions of a head. The chains of a tile stay in registers while one operand is broadcast from memory, the other
// loaded once for all of the tile's rows.

#include "pages.inl"

// One chain of a group, the even or the odd places: its steps from `begin` on, for a tile of sums.
template <int Rows, int Columns, int place, class Factors, class Pairs>
TW_INLINE void add_up(const float* rows, const Pairs* columns, int begin, int steps, Floats (&sums)[Rows][Columns]) {
#pragma GCC unroll 12
    for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 8
        for (int c = 0; c < Columns; ++c) sums[r][c] = splat(0.0f);
    for (int j = begin; j < begin + steps; ++j) {
        Floats of_columns[Columns];
#pragma GCC unroll 8
        for (int c = 0; c < Columns; ++c) of_columns[c] = columns[c].template at<place>(j);
#pragma GCC unroll 12
        for (int r = 0; r < Rows; ++r) {
            const float* factor = rows + r * kTileStride + 2 * j + place;
#pragma GCC unroll 8
            for (int c = 0; c < Columns; ++c) sums[r][c] = Factors::add_product(factor, of_columns[c], sums[r][c]);
        }
    }
}

// Adds one group to a tile of sums in memory, or begins them with it.
template <int Rows, int Columns, class Factors, class Pairs>
TW_INLINE void add_group(const float* rows, const Pairs* columns, int begin, int pairs, bool first, float* sums,
                         size_t row_stride, int column_stride) {
    constexpr int step = Factors::kPlaces;
    Floats even[Rows][Columns], odd[Rows][Columns];
    add_up<Rows, Columns, 0, Factors>(rows, columns, begin / step, pairs / step, even);
    add_up<Rows, Columns, 1, Factors>(rows, columns, begin / step, pairs / step, odd);
#pragma GCC unroll 12
    for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 8
        for (int c = 0; c < Columns; ++c) {
            float* to = sums + size_t(r) * row_stride + c * column_stride;
            const Floats group = add(even[r][c], odd[r][c]);
            store(to, first ? group : add(load(to), group));
        }
}

// How many columns of sums fit in registers beside those of `rows` rows: a power of two.
constexpr int columns_beside(int rows) {
    int columns = 1;
    while (2 * columns * rows <= kSums && columns < 8) columns *= 2;
    return columns;
}

// What of one chunk any query of a tile sees: pages begin…end - 1. `first_page` is the chunk's.
struct Seen {
    int first_page, begin, end;
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
    const int first_page = begin / kPageTokens;
    if (low >= high) return {first_page, first_page, first_page};
    return {first_page, low / kPageTokens, (high + kPageTokens - 1) / kPageTokens};
}

// Scores of pages from `page` on, as many at once as fit in registers, and then fewer. Rows beyond `kChunkTokens`
// dimensions lie a block of queries further.
template <int Rows, int Columns, class Pages>
TW_INLINE void score(const float* rows, const Seen& seen, int page, const Pages& pages, int size, float* scores) {
    for (; page + Columns <= seen.end; page += Columns) {
        decltype(pages.keys(0)) keys[Columns];
#pragma GCC unroll 8
        for (int c = 0; c < Columns; ++c) keys[c] = pages.keys(page + c);
        float* to = scores + (page - seen.first_page) * kPageTokens;
        for (int d = 0; d < size; d += kDotGroup) {
            const int slab = d / kChunkTokens, dimensions = size - d < kDotGroup ? size - d : kDotGroup;
            constexpr int width = kChunkTokens / Pages::Factors::kPlaces;
            add_group<Rows, Columns, typename Pages::Factors>(rows + size_t(slab) * (kQueryBlock * kTileStride - width), keys,
                                                              d / 2, dimensions / 2, d == 0, to, kTileStride, kPageTokens);
        }
    }
    if constexpr (Columns > 1) score<Rows, Columns / 2>(rows, seen, page, pages, size, scores);
}

// 2^x for -50 <= x <= 0, and 0 below: an error of 3e-6 by a polynomial of degree 4 fitted to 2^x on ±1/2, which is 1 at 0.
TW_INLINE Floats power_of_two_below_one(Floats x) {
    const Floats shifted = add(x, splat(0x1.8p23f));  // rounds to a whole number
    const Floats r = subtract(x, subtract(shifted, splat(0x1.8p23f)));
    Floats p = splat(9.582853e-3f);
    p = fused(p, r, splat(5.5906426e-2f));
    p = fused(p, r, splat(2.4024099e-1f));
    p = fused(p, r, splat(6.931242e-1f));
    p = fused(p, r, splat(1.0f));
    return times_power(p, shifted, x, -50.0f);
}

// The scores of tokens that a row does not see become -inf; pages that all rows see whole are left alone.
static void mask(const Query* queries, int count, const Seen& seen, float* scores) {
    int first = 0, last = queries[0].last;
    for (int r = 0; r < count; ++r) {
        if (queries[r].first > first) first = queries[r].first;
        if (queries[r].last < last) last = queries[r].last;
    }
    int whole_begin = (first + kPageTokens - 1) / kPageTokens, whole_end = (last + 1) / kPageTokens;
    if (whole_begin >= whole_end) whole_begin = whole_end = seen.end;
    const float unseen = -__builtin_inff();
    for (int page = seen.begin; page < seen.end; ++page) {
        if (page == whole_begin && whole_end > page) page = whole_end;
        if (page >= seen.end) break;
        for (int r = 0; r < count; ++r) {
            float* at = scores + r * kTileStride + (page - seen.first_page) * kPageTokens;
            const Floats v = keep_first(load(at), queries[r].last + 1 - page * kPageTokens, unseen);
            store(at, keep_from(v, queries[r].first - page * kPageTokens, unseen));
        }
    }
}

// Rows of scores of a chunk to weights relative to the largest of a row; that and the weights' sum go behind the values of
// the row's part. `put` takes each page's weights, to be rounded. First all largest, then all weights: so that no row
// waits for another's.
template <class Put>
TW_INLINE void weigh(int rows, const Seen& seen, const float* scores, int size, float* parts, Put put) {
    const int begin = (seen.begin - seen.first_page) * kPageTokens, end = (seen.end - seen.first_page) * kPageTokens;
    for (int r = 0; r < rows; ++r) {
        Floats best = splat(-__builtin_inff());
        for (int t = begin; t < end; t += kPageTokens) best = maximum(best, load(scores + r * kTileStride + t));
        parts[r * part_floats(size) + size] = max_lanes(best);
    }
    for (int r = 0; r < rows; ++r) {
        float* extra = parts + r * part_floats(size) + size;
        const Floats top = splat(extra[0]);
        Floats total = splat(0.0f);
        for (int t = begin; t < end; t += kPageTokens) {
            const Floats v = power_of_two_below_one(subtract(load(scores + r * kTileStride + t), top));
            total = add(total, v);
            put(r, t, v);
        }
        extra[1] = sum_lanes(total);
    }
}

// Weighted values of dimensions from `d` on, as many at once as fit in registers, and then fewer.
template <int Rows, int Columns, class Pages>
TW_INLINE void weighted_values(const float* weights, const Seen& seen, int d, const Pages& pages, int size, float* parts) {
    for (; d + 16 * Columns <= size; d += 16 * Columns)
        for (int page = seen.begin; page < seen.end; ++page) {
            decltype(pages.values(0, 0)) values[Columns];
#pragma GCC unroll 8
            for (int c = 0; c < Columns; ++c) values[c] = pages.values(page, d + 16 * c);
            const float* factors = weights + (page - seen.first_page) * kPageTokens / Pages::Factors::kPlaces;
            add_group<Rows, Columns, typename Pages::Factors>(factors, values, 0, kPageTokens / 2, page == seen.begin, parts + d,
                                                              part_floats(size), 16);
        }
    if constexpr (Columns > 1) weighted_values<Rows, Columns / 2>(weights, seen, d, pages, size, parts);
}

// Scores of codes become those of keys.
static void scale_scores(int rows, const Seen& seen, const HeadPages& stored, float* scores) {
    for (int page = seen.begin; page < seen.end; ++page) {
        const Floats scales = stored.key_scales(page);
        float* at = scores + (page - seen.first_page) * kPageTokens;
        for (int r = 0; r < rows; ++r, at += kTileStride) store(at, multiply(load(at), scales));
    }
}

template <int Rows, class Pages>
static void attend_tile(const Query* queries, const float* rows, int chunk, const HeadPages& stored, const Pages& pages,
                        int size, float* scores, float* parts) {
    const Seen seen = seen_by(queries, Rows, chunk);
    const bool scaled = stored.scaled();
    score<Rows, columns_beside(Rows)>(rows, seen, seen.begin, pages, size, scores);
    if (scaled) scale_scores(Rows, seen, stored, scores);
    mask(queries, Rows, seen, scores);
    weigh(Rows, seen, scores, size, parts, [&](int r, int t, Floats v) {
        if (scaled) v = multiply(v, stored.value_scales(seen.first_page + t / kPageTokens));
        Pages::Factors::put(scores + r * kTileStride, t, rounded_to_bf16(v));  // no further on than the scores read so far
    });
    weighted_values<Rows, columns_beside(Rows)>(scores, seen, 0, pages, size, parts);
}

// All queries of a block, in tiles of as many rows as fit, and then smaller ones.
template <int Rows, class Pages>
static void attend_rows(const Query* queries, int row, int count, const float* rows, int chunk, const HeadPages& stored,
                        const Pages& pages, int size, float* scores, float* parts) {
    for (; row + Rows <= count; row += Rows)
        attend_tile<Rows>(queries + row, rows + row * kTileStride, chunk, stored, pages, size, scores,
                          parts + row * part_floats(size));
    constexpr int fewer = Rows > 8 ? 8 : Rows > 4 ? 4 : Rows - 1;
    if constexpr (fewer > 0) attend_rows<fewer>(queries, row, count, rows, chunk, stored, pages, size, scores, parts);
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
    float lanes[16];
    store(lanes, fused(splat(part[size + 1]), old, multiply(splat(next[size + 1]), fresh)));
    part[size] = top;
    part[size + 1] = lanes[0];
}

// Memory of one call, in scratch.
struct AttentionMemory {
    float *rows, *scores, *chunk_parts, *staged_keys, *staged_values;

    AttentionMemory(float* scratch, int size)
        : rows(scratch),
          scores(rows + size_t(size + kChunkTokens - 1) / kChunkTokens * kQueryBlock * kTileStride),
          chunk_parts(scores + kMostTileRows * kTileStride),
          staged_keys(chunk_parts + kQueryBlock * part_floats(size)),
          staged_values(staged_keys + size_t(kChunkTokens) * size) {}
};

// Queries as rows of factors.
template <class Factors>
static void put_rows(const Query* queries, int count, int size, float* rows) {
    for (int i = 0; i < count; ++i)
        for (int d = 0; d < size; d += 16) {
            const Floats scaled = multiply(load(queries[i].query + d), splat(kLog2E));
            float* slab = rows + size_t(d / kChunkTokens) * kQueryBlock * kTileStride;
            Factors::put(slab + i * kTileStride, d % kChunkTokens, rounded_to_bf16(zero_below(scaled, kLeastFactor)));
        }
}

// Many queries are multiplied with staged pages, by `Factors`.
template <class Factors, class Pages>
static void attend_pages(const Query* queries, int count, const Pages& stored, int begin, int end, float* scratch,
                         float* parts) {
    const int size = stored.kv.head_dim;
    const AttentionMemory memory(scratch, size);
    const bool many = count > kQueryRows;
    if (many)
        put_rows<Factors>(queries, count, size, memory.rows);
    else
        put_rows<typename Pages::Factors>(queries, count, size, memory.rows);
    for (int chunk = begin; chunk < end; ++chunk) {
        float* to = chunk == begin ? parts : memory.chunk_parts;
        if (many) {
            const Seen seen = seen_by(queries, count, chunk);
            const StagedPages<Factors> staged{memory.staged_keys, memory.staged_values, seen.first_page, size};
            staged.fill(stored, seen.begin, seen.end);
            attend_rows<kQueryRows>(queries, 0, count, memory.rows, chunk, stored, staged, size, memory.scores, to);
        } else {
            attend_rows<kQueryRows>(queries, 0, count, memory.rows, chunk, stored, stored, size, memory.scores, to);
        }
        for (int i = 0; i < count && chunk > begin; ++i)
            merge(parts + i * part_floats(size), to + i * part_floats(size), size);
    }
}

template <class Factors>
static void attend_by(const Query* queries, int count, const KeyValues& kv, int kv_head, const int32_t* table, int begin,
                      int end, float* scratch, float* parts) {
    if (kv.format == KvFormat::int8)
        attend_pages<Factors>(queries, count, CodePages{{kv, kv_head, table}}, begin, end, scratch, parts);
    else
        attend_pages<Factors>(queries, count, StoredPages{{kv, kv_head, table}}, begin, end, scratch, parts);
}

static void attend(const Query* queries, int count, const KeyValues& kv, int kv_head, const int32_t* table, int begin,
                   int end, float* scratch, float* parts) {
    attend_by<FloatFactors>(queries, count, kv, kv_head, table, begin, end, scratch, parts);
}

static void settle(const Query* queries, int count, float* parts, int stretches, int size) {
    for (int i = 0; i < count; ++i) {
        float* part = parts + i * part_floats(size);
        for (int s = 1; s < stretches; ++s) merge(part, part + s * count * part_floats(size), size);
        const Floats inverse = splat(1.0f / part[size + 1]);
        for (int d = 0; d < size; d += 16) store(queries[i].out + d, multiply(load(part + d), inverse));
    }
}
