// Attention over KV pages, written once on sixteen lanes like kernels.inl.

// Three sweeps: scores and their maximum, weights and their sum, weighted values. The order over tokens is the
// same for every query, whatever else is in the tile.
template <int Count>
static void attend_tile(const Query* queries, const KeyValues& kv, int kv_head, const int32_t* pages, float* scratch) {
    const int size = kv.head_dim;
    int tokens = 0, first = queries[0].first;
    for (int i = 0; i < Count; ++i) {
        if (queries[i].last >= tokens) tokens = queries[i].last + 1;
        if (queries[i].first < first) first = queries[i].first;
    }
    const int begin = first / kPageTokens, end = (tokens + kPageTokens - 1) / kPageTokens;
    const size_t padded = size_t(end - begin) * kPageTokens;
    const float lowest = -__builtin_inff();

    Floats best[Count];
    for (int i = 0; i < Count; ++i) best[i] = splat(lowest);
    for (int page = begin; page < end; ++page) {
        const uint16_t* keys = kv.keys(pages[page], kv_head);
        Floats score[Count];
#pragma GCC unroll 4
        for (int i = 0; i < Count; ++i) score[i] = splat(0.0f);
        for (int d = 0; d < size; ++d) {
            const Floats key = load_half(keys + d * kPageTokens);
#pragma GCC unroll 4
            for (int i = 0; i < Count; ++i) score[i] = fused(splat(queries[i].query[d]), key, score[i]);
        }
#pragma GCC unroll 4
        for (int i = 0; i < Count; ++i) {
            score[i] = keep_first(score[i], queries[i].last + 1 - page * kPageTokens, lowest);
            const int unseen = queries[i].first - page * kPageTokens;
            if (unseen > 0) score[i] = add(score[i], keep_first(splat(lowest), unseen, 0.0f));
            best[i] = maximum(best[i], score[i]);
            store(scratch + i * padded + (page - begin) * kPageTokens, score[i]);
        }
    }

    float inverse[Count];
    for (int i = 0; i < Count; ++i) {
        const Floats top = splat(max_lanes(best[i]));
        Floats total = splat(0.0f);
        float* weights = scratch + i * padded;
        for (int page = begin; page < end; ++page) {
            Floats weight = exponential(subtract(load(weights + (page - begin) * kPageTokens), top));
            weight = keep_first(weight, queries[i].last + 1 - page * kPageTokens, 0.0f);
            const int unseen = queries[i].first - page * kPageTokens;
            if (unseen > 0) weight = multiply(weight, keep_first(splat(0.0f), unseen, 1.0f));
            total = add(total, weight);
            store(weights + (page - begin) * kPageTokens, weight);
        }
        inverse[i] = 1.0f / sum_lanes(total);
    }

    for (int i = 0; i < Count; ++i)
        for (int d = 0; d < size; d += 16) store(queries[i].out + d, splat(0.0f));
    for (int page = begin; page < end; ++page) {
        const uint16_t* values = kv.values(pages[page], kv_head);
        const int remaining = tokens - page * kPageTokens;
        const int count = remaining < kPageTokens ? remaining : kPageTokens;  // never past what was written
        for (int d = 0; d < size; d += 16) {
            Floats out[Count];
#pragma GCC unroll 4
            for (int i = 0; i < Count; ++i) out[i] = load(queries[i].out + d);
            for (int t = 0; t < count; ++t) {
                const Floats value = load_half(values + t * size + d);
#pragma GCC unroll 4
                for (int i = 0; i < Count; ++i)
                    out[i] = fused(splat(scratch[i * padded + (page - begin) * kPageTokens + t]), value, out[i]);
            }
#pragma GCC unroll 4
            for (int i = 0; i < Count; ++i) store(queries[i].out + d, out[i]);
        }
    }
    for (int i = 0; i < Count; ++i)
        for (int d = 0; d < size; d += 16)
            store(queries[i].out + d, multiply(load(queries[i].out + d), splat(inverse[i])));
}

static void attend(const Query* queries, int count, const KeyValues& kv, int kv_head, const int32_t* pages,
                   float* scratch) {
    switch (count) {
        case 1: return attend_tile<1>(queries, kv, kv_head, pages, scratch);
        case 2: return attend_tile<2>(queries, kv, kv_head, pages, scratch);
        case 3: return attend_tile<3>(queries, kv, kv_head, pages, scratch);
        default: return attend_tile<4>(queries, kv, kv_head, pages, scratch);
    }
}
