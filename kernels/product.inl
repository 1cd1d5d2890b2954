// Products of panels with rows of activations, written once on sixteen lanes like kernels.inl.

TW_INLINE void put(float* out, Floats v, bool accumulate) {
    store(out, accumulate ? add(load(out), v) : v);
}

// One group of a panel times `Rows` activation rows. Per output:
//   total += (weight scale * activation scale) * dot;  then, for Q4,  total += minimum * scaled sum
// The dot is of weights as they are in whole numbers: of centred groups, of nibbles - 8.
template <Format format, int Rows>
TW_INLINE void add_group_to(Floats* total, const uint8_t* w, const Activations& in, size_t cell) {
    constexpr int code_bytes = code_bytes_of(format);
    const int8_t* values[Rows];
    int32_t centres[Rows];
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r) {
        values[r] = in.values + (cell + r) * kGroup;
        centres[r] = in.centre[cell + r];
    }
    Ints dots[Rows];
    if constexpr (format == Format::q4 || format == Format::q4_centred)
        dot_q4<Rows, format == Format::q4_centred>(w, values, centres, dots);
    else if constexpr (format == Format::q6)
        dot_q6<Rows>(w, values, centres, dots);
    else
        dot_q8<Rows>(w, values, centres, dots);
    const Floats scale = load_half((const uint16_t*)(w + code_bytes));
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r)
        total[r] = fused(multiply(scale, splat(in.scale[cell + r])), to_floats(dots[r]), total[r]);
    if constexpr (format == Format::q4) {
        const Floats least = load_half((const uint16_t*)(w + code_bytes + 32));
#pragma GCC unroll 8
        for (int r = 0; r < Rows; ++r) total[r] = fused(least, splat(in.scaled_sum[cell + r]), total[r]);
    }
}

// From how many rows on weights are asked for before they are needed, and how many bytes before. With fewer rows the processor
// reads ahead far enough by itself and asking costs a little; beside more arithmetic it comes too late (docs/performance.md).
constexpr int kRowsToPrefetch = 3;
constexpr size_t kPrefetchBytes = 3072;

// One panel times `Rows` activation rows, group by group. Beyond kRowTile rows a second register tile follows within each
// group, so that weights come from memory evenly and not all during the first tile.
template <Format format, int Rows>
TW_INLINE void panel_tile(const uint8_t* w, const Activations& in, int row, Floats* total) {
    constexpr int first = Rows < kRowTile ? Rows : kRowTile;
#pragma GCC unroll 16
    for (int r = 0; r < Rows; ++r) total[r] = splat(0.0f);
    size_t cell = in.cell(row, 0);  // the rows are of one tile
    for (int g = 0; g < in.groups; ++g, w += group_bytes_of(format), cell += size_t(in.tile_rows)) {
        if constexpr (Rows >= kRowsToPrefetch)
#pragma GCC unroll 9
            for (int line = 0; line < group_bytes_of(format); line += 64) __builtin_prefetch(w + kPrefetchBytes + line);
        add_group_to<format, first>(total, w, in, cell);
        if constexpr (Rows > first) add_group_to<format, Rows - first>(total + first, w, in, cell + first);
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
#pragma GCC unroll 16
    for (int r = 0; r < Rows; ++r) put(out + size_t(row + r) * stride, total[r], accumulate);
}

// The rows that are left, fewer than kRowsAtOnce, in one go: weights are read once for them.
template <Format format, int... less>
TW_INLINE void last_tile(std::integer_sequence<int, less...>, int rows, const uint8_t* w, const Matrix& m, const Activations& in,
                         int row, float* out, size_t stride, bool accumulate) {
    ((rows == less + 1 ? tile<format, less + 1>(w, m, in, row, out, stride, accumulate) : void()), ...);
}

template <Format format>
static void product_of(const Matrix& m, int begin, int end, const Activations& in, int rows, float* out,
                       size_t stride, bool accumulate) {
    constexpr std::make_integer_sequence<int, kRowsAtOnce - 1> less{};
    for (int p = begin; p < end; ++p, out += kPanelRows) {
        const uint8_t* w = m.panel(p);
        int row = 0;
        for (; row + kRowsAtOnce <= rows; row += kRowsAtOnce)
            tile<format, kRowsAtOnce>(w, m, in, row, out, stride, accumulate);
        last_tile<format>(less, rows - row, w, m, in, row, out, stride, accumulate);
    }
}

static void product(const Matrix& m, int begin, int end, const Activations& in, int rows, float* out, size_t stride,
                    bool accumulate) {
    switch (m.format) {
        case Format::q4_centred:
            return product_of<Format::q4_centred>(m, begin, end, in, rows, out, stride, accumulate);
        case Format::q4: return product_of<Format::q4>(m, begin, end, in, rows, out, stride, accumulate);
        case Format::q6: return product_of<Format::q6>(m, begin, end, in, rows, out, stride, accumulate);
        case Format::q8: return product_of<Format::q8>(m, begin, end, in, rows, out, stride, accumulate);
        case Format::bf16: return product_of<Format::bf16>(m, begin, end, in, rows, out, stride, accumulate);
        case Format::q4_wide: break;  // only of paths with a product of their own for it
    }
}
