// What choosing a token does with each logit of a row (see sampling.cpp).

// The sixteen logits from `at` on; beyond the last one there is nothing.
TW_INLINE Floats logits_at(const float* logits, int at, int count) {
    if (at + 16 <= count) return load(logits + at);
    float rest[16];
    for (int i = 0; i < 16; ++i) rest[i] = at + i < count ? logits[at + i] : -__builtin_inff();
    return load(rest);
}

static bool largest_logits(const float* logits, int count, float* blocks) {
    Floats strange = splat(0.0f);
    for (int start = 0; start < count; start += kLogitBlock) {
        Floats most = splat(-__builtin_inff());
        for (int at = start; at < start + kLogitBlock && at < count; at += 16) {
            const Floats x = logits_at(logits, at, count), bounded = maximum(splat(-3.4e38f), x);
            most = maximum(x, most);
            strange = add(strange, subtract(bounded, bounded));  // 0 of a number, else NaN, which stays
        }
        blocks[start / kLogitBlock] = max_lanes(most);
    }
    return sum_lanes(strange) == 0.0f;
}

static void weigh_logits(const float* logits, int count, float peak, float sharpness, float cut, float* weights, float* sums) {
    const float least = cut > -87.0f ? cut : -87.0f;  // e to that and less is nothing beside 1
    for (int start = 0; start < count; start += kLogitBlock) {
        Floats sum = splat(0.0f);
        for (int at = start; at < start + kLogitBlock && at < count; at += 16) {
            const Floats scaled = multiply(subtract(logits_at(logits, at, count), splat(peak)), splat(sharpness));
            const Floats weight = times_power(exponential(scaled), splat(0.0f), scaled, least);
            store(weights + at, weight);
            sum = add(sum, weight);
        }
        sums[start / kLogitBlock] = sum_lanes(sum);
    }
}
