// The weights of a block (blocks.h), written once on sixteen lanes like kernels.inl.

template <Source source>
TW_INLINE void weights_of(const uint8_t* block, float* out) {
    Numbers numbers;
    take_apart<source>(block, numbers);
    for (int i = 0; i < block_of(source).weights; i += 16) {
        const int group = i / kScaleGroup<source>;
        Floats weights = multiply(splat(numbers.scale[group]), to_floats(load_bytes(numbers.quants + i)));
        if constexpr (kHasMinimum<source>) weights = subtract(weights, splat(numbers.minimum[group]));
        store(out + i, weights);
    }
}
