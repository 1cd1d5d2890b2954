// The kernels, written once on sixteen lanes. Each path includes this inside its own namespace, after its
// simd_*.h, so that no code compiled for one instruction set can be linked into another. For the same
// reason nothing of the C++ library's templates is used here.

TW_INLINE Floats exponential(Floats x) {
    // exp(x) = 2^n * exp(r), |r| <= ln2 / 2, with a minimax polynomial (Cephes expf): error about 2 ulp.
    x = minimum(maximum(x, splat(-87.0f)), splat(88.0f));
    const Ints n = round_to_ints(multiply(x, splat(1.44269504f)));
    const Floats whole = to_floats(n);
    Floats r = fused(whole, splat(-0.693359375f), x);
    r = fused(whole, splat(2.12194440e-4f), r);
    Floats p = splat(1.9875691500e-4f);
    p = fused(p, r, splat(1.3981999507e-3f));
    p = fused(p, r, splat(8.3334519073e-3f));
    p = fused(p, r, splat(4.1665795894e-2f));
    p = fused(p, r, splat(1.6666665459e-1f));
    p = fused(p, r, splat(5.0000001201e-1f));
    p = add(fused(p, multiply(r, r), r), splat(1.0f));
    return multiply(p, power_of_two(n));
}

static void rms_norm(const float* x, const float* weight, float epsilon, int size, float* y) {
    Floats squares = splat(0.0f);
    const int whole = size & ~15;
    for (int i = 0; i < whole; i += 16) squares = fused(load(x + i), load(x + i), squares);
    float total = sum_lanes(squares);
    for (int i = whole; i < size; ++i) total += x[i] * x[i];
    const float scale = 1.0f / __builtin_sqrtf(total / float(size) + epsilon);
    for (int i = 0; i < whole; i += 16)
        store(y + i, multiply(multiply(load(x + i), splat(scale)), load(weight + i)));
    for (int i = whole; i < size; ++i) y[i] = x[i] * scale * weight[i];
}

static void quantise(const float* x, int size, const Activations& out) {
    for (int g = 0; g < size / kGroup; ++g) {
        const Floats a = load(x + g * kGroup), b = load(x + g * kGroup + 16);
        const float largest = max_lanes(maximum(absolute(a), absolute(b)));
        const float inverse = largest > 0.0f ? 127.0f / largest : 0.0f;
        int8_t* values = out.values + g * kGroup;
        const int32_t sum = store_bytes(values, round_to_ints(multiply(a, splat(inverse)))) +
                            store_bytes(values + 16, round_to_ints(multiply(b, splat(inverse))));
        out.scale[g] = largest / 127.0f;
        out.sum[g] = sum;
        out.scaled_sum[g] = out.scale[g] * float(sum);
    }
}

static void layer_norm(const float* x, const float* weight, const float* bias, float epsilon, int size, float* y) {
    const int whole = size & ~15;
    Floats sums = splat(0.0f);
    for (int i = 0; i < whole; i += 16) sums = add(sums, load(x + i));
    float total = sum_lanes(sums);
    for (int i = whole; i < size; ++i) total += x[i];
    const float mean = total / float(size);
    Floats squares = splat(0.0f);
    for (int i = 0; i < whole; i += 16) {
        const Floats centred = subtract(load(x + i), splat(mean));
        squares = fused(centred, centred, squares);
    }
    float variance = sum_lanes(squares);
    for (int i = whole; i < size; ++i) variance += (x[i] - mean) * (x[i] - mean);
    const float scale = 1.0f / __builtin_sqrtf(variance / float(size) + epsilon);
    for (int i = 0; i < whole; i += 16)
        store(y + i, fused(multiply(subtract(load(x + i), splat(mean)), splat(scale)), load(weight + i), load(bias + i)));
    for (int i = whole; i < size; ++i) y[i] = (x[i] - mean) * scale * weight[i] + bias[i];
}

static void add_to(float* x, const float* y, int size) {
    int i = 0;
    for (; i + 16 <= size; i += 16) store(x + i, add(load(x + i), load(y + i)));
    for (; i < size; ++i) x[i] += y[i];
}

// x / (1 + exp(-y))
TW_INLINE Floats sigmoid_weighted(Floats x, Floats y) {
    return divide(x, add(splat(1.0f), exponential(subtract(splat(0.0f), y))));
}

// 0.5 (1 + tanh u) is the logistic function of 2u, with u = sqrt(2 / pi) (x + 0.044715 x^3).
TW_INLINE Floats gelu_tanh(Floats x) {
    const Floats cubic = fused(multiply(multiply(x, x), splat(0.044715f)), x, x);
    return sigmoid_weighted(x, multiply(cubic, splat(2.0f * 0.79788456f)));
}

// x (1 + erf(x / sqrt 2)) / 2, with erf by Abramowitz and Stegun 7.1.26: error below 1.5e-7.
TW_INLINE Floats gelu(Floats x) {
    const Floats z = multiply(absolute(x), splat(0.70710678f));
    const Floats t = divide(splat(1.0f), fused(z, splat(0.3275911f), splat(1.0f)));
    Floats p = fused(t, splat(1.061405429f), splat(-1.453152027f));
    p = fused(p, t, splat(1.421413741f));
    p = fused(p, t, splat(-0.284496736f));
    p = fused(p, t, splat(0.254829592f));
    const Floats tail = multiply(multiply(p, t), exponential(subtract(splat(0.0f), multiply(z, z))));  // 1 - erf(z)
    // For x >= 0: x (2 - tail) / 2; for x < 0: x tail / 2. Both are (x + |x| - |x| tail) / 2.
    const Floats size = absolute(x);
    return multiply(subtract(add(x, size), multiply(size, tail)), splat(0.5f));
}

template <Activation activation>
TW_INLINE void activate_all(float* gate, const float* up, int size) {
    for (int i = 0; i < size; i += 16) {
        const Floats x = load(gate + i);
        const Floats y = activation == Activation::silu        ? sigmoid_weighted(x, x)
                         : activation == Activation::gelu_tanh ? gelu_tanh(x)
                                                               : gelu(x);
        store(gate + i, up ? multiply(y, load(up + i)) : y);
    }
}

static void activate(Activation activation, float* gate, const float* up, int size) {
    switch (activation) {
        case Activation::silu: return activate_all<Activation::silu>(gate, up, size);
        case Activation::gelu_tanh: return activate_all<Activation::gelu_tanh>(gate, up, size);
        case Activation::gelu: return activate_all<Activation::gelu>(gate, up, size);
    }
}

static void rotate(float* x, const float* cosine, const float* sine, int half) {
    int i = 0;
    for (; i + 16 <= half; i += 16) {
        const Floats a = load(x + i), b = load(x + half + i), c = load(cosine + i), s = load(sine + i);
        store(x + i, subtract(multiply(a, c), multiply(b, s)));
        store(x + half + i, add(multiply(b, c), multiply(a, s)));
    }
    for (; i < half; ++i) {
        const float a = x[i], b = x[half + i];
        x[i] = a * cosine[i] - b * sine[i];
        x[half + i] = b * cosine[i] + a * sine[i];
    }
}

static void to_half(const float* x, uint16_t* y, int size) {
    for (int i = 0; i < size; i += 16) store_half(y + i, load(x + i));
}

TW_INLINE void put(float* out, Floats v, bool accumulate) {
    store(out, accumulate ? add(load(out), v) : v);
}

// One panel times `Rows` activation rows. Per output: for each group in order
//   total += (weight scale * activation scale) * dot;  then, for Q4,  total += minimum * scaled sum.
template <Format format, int Rows>
TW_INLINE void panel_tile(const uint8_t* w, const Activations& in, int row, Floats* total) {
    constexpr int code_bytes = format == Format::q4 ? kQ4Nibbles : kQ8Bytes;
    constexpr int group_bytes = format == Format::q4 ? kQ4GroupBytes : kQ8GroupBytes;
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r) total[r] = splat(0.0f);
    for (int g = 0; g < in.groups; ++g, w += group_bytes) {
        const int8_t* values[Rows];
        int32_t sums[Rows];
#pragma GCC unroll 8
        for (int r = 0; r < Rows; ++r) {
            values[r] = in.values + (size_t(row + r) * in.groups + g) * kGroup;
            sums[r] = in.sum[size_t(row + r) * in.groups + g];
        }
        Ints dots[Rows];
        if constexpr (format == Format::q4)
            dot_q4<Rows>(w, values, dots);
        else
            dot_q8<Rows>(w, values, sums, dots);
        const Floats scale = load_half((const uint16_t*)(w + code_bytes));
#pragma GCC unroll 8
        for (int r = 0; r < Rows; ++r) {
            const size_t at = size_t(row + r) * in.groups + g;
            total[r] = fused(multiply(scale, splat(in.scale[at])), to_floats(dots[r]), total[r]);
        }
        if constexpr (format == Format::q4) {
            const Floats least = load_half((const uint16_t*)(w + code_bytes + 32));
#pragma GCC unroll 8
            for (int r = 0; r < Rows; ++r)
                total[r] = fused(least, splat(in.scaled_sum[size_t(row + r) * in.groups + g]), total[r]);
        }
    }
}

template <int Rows>
TW_INLINE void panel_tile_bf16(const uint16_t* w, const Activations& in, int inputs, int row, Floats* total) {
    for (int r = 0; r < Rows; ++r) total[r] = splat(0.0f);
    const float* x = in.floats + size_t(row) * in.stride;
    for (int i = 0; i < inputs; ++i, w += kPanelRows) {
        const Floats column = load_bf16(w);
#pragma GCC unroll 8
        for (int r = 0; r < Rows; ++r) total[r] = fused(splat(x[size_t(r) * in.stride + i]), column, total[r]);
    }
}

template <Format format, int Rows>
TW_INLINE void tile(const uint8_t* w, const Matrix& m, const Activations& in, int row, float* out, size_t stride,
                    bool accumulate) {
    Floats total[Rows];
    if constexpr (format == Format::bf16)
        panel_tile_bf16<Rows>((const uint16_t*)w, in, m.inputs, row, total);
    else
        panel_tile<format, Rows>(w, in, row, total);
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r) put(out + size_t(row + r) * stride, total[r], accumulate);
}

template <Format format>
static void product_of(const Matrix& m, int begin, int end, const Activations& in, int rows, float* out,
                       size_t stride, bool accumulate) {
    for (int p = begin; p < end; ++p, out += kPanelRows) {
        const uint8_t* w = m.panel(p);
        int row = 0;
        for (; row + kRowTile <= rows; row += kRowTile) tile<format, kRowTile>(w, m, in, row, out, stride, accumulate);
        if constexpr (kRowTile > 4)
            for (; row + 4 <= rows; row += 4) tile<format, 4>(w, m, in, row, out, stride, accumulate);
        if constexpr (kRowTile > 1)
            switch (rows - row) {
                case 3: tile<format, 3>(w, m, in, row, out, stride, accumulate); break;
                case 2: tile<format, 2>(w, m, in, row, out, stride, accumulate); break;
                case 1: tile<format, 1>(w, m, in, row, out, stride, accumulate); break;
                default: break;
            }
    }
}

static void product(const Matrix& m, int begin, int end, const Activations& in, int rows, float* out, size_t stride,
                    bool accumulate) {
    switch (m.format) {
        case Format::q4: return product_of<Format::q4>(m, begin, end, in, rows, out, stride, accumulate);
        case Format::q8: return product_of<Format::q8>(m, begin, end, in, rows, out, stride, accumulate);
        case Format::bf16: return product_of<Format::bf16>(m, begin, end, in, rows, out, stride, accumulate);
    }
}

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
