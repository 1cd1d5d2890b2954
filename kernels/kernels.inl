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

// 32 floats to int8; `cell` is the group's place.
TW_INLINE void quantise_group(const float* x, const Activations& out, size_t cell) {
    const Floats a = load(x), b = load(x + 16);
    const float largest = max_lanes(maximum(absolute(a), absolute(b)));
    const float inverse = largest > 0.0f ? 127.0f / largest : 0.0f;
    const Ints low = round_to_ints(multiply(a, splat(inverse))), high = round_to_ints(multiply(b, splat(inverse)));
    store_bytes(out.values + cell * kGroup, low);
    store_bytes(out.values + cell * kGroup + 16, high);
    const int32_t sum = sum_of(low, high);
    out.scale[cell] = largest / 127.0f;
    out.centre[cell] = -8 * sum;
    out.scaled_sum[cell] = out.scale[cell] * float(sum);
}

static void quantise(const float* x, int size, const Activations& out) {
    size_t cell = out.cell(0, 0);
    for (int g = 0; g < size / kGroup; ++g, cell += size_t(out.tile_rows)) quantise_group(x + g * kGroup, out, cell);
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

template <Activation activation>
TW_INLINE void activate_rows(float* gate, const float* up, int rows, int size, const Activations& out) {
    for (int row = 0; row < rows; ++row) {
        activate_all<activation>(gate + row * kGroup, up ? up + row * kGroup : up, size);
        quantise_group(gate + row * kGroup, out, out.cell(row, 0));
    }
}

static void activate_group(Activation activation, float* gate, const float* up, int rows, int size, const Activations& out) {
    switch (activation) {
        case Activation::silu: return activate_rows<Activation::silu>(gate, up, rows, size, out);
        case Activation::gelu_tanh: return activate_rows<Activation::gelu_tanh>(gate, up, rows, size, out);
        case Activation::gelu: return activate_rows<Activation::gelu>(gate, up, rows, size, out);
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
