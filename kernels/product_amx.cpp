#include "product_amx.h"

#include <cpuid.h>
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>

#include "kernels.h"
#include "simd_avx512.h"
#include "tiles.h"
#include "wide.h"

namespace tokenworks::amx {

namespace {

constexpr int kLines = kGroup / 4;  // rows of a weight tile: 64 bytes hold four inputs of sixteen outputs
constexpr int kBatch = 8;           // groups whose dot products wait in the first-level cache to be scaled
constexpr int kHalfRows = kTileRows / 2;
constexpr int kFewestRows = 5;  // fewer are faster by vectors

// Tile registers. There are pairs, so that one product's loads overlap the other's.
constexpr int kSums = 0, kRows = 2, kWeights = 4, kHalfSums = 6, kHalfActivations = 7;

constexpr TileConfiguration configuration() {
    TileConfiguration c;
    for (int i : {kSums, kSums + 1}) c.set(i, kTileRows, kTileBytes);
    for (int i : {kRows, kRows + 1}) c.set(i, kTileRows, kGroup);
    for (int i : {kWeights, kWeights + 1}) c.set(i, kLines, kTileBytes);
    c.set(kHalfSums, kHalfRows, kTileBytes);
    c.set(kHalfActivations, kHalfRows, kGroup);
    return c;
}
constexpr TileConfiguration kConfiguration = configuration();

struct Scratch {  // of one thread
    Lines tiles, scales;
    alignas(64) int32_t dots[kBatch][kTileRows][kPanelRows];
};

// What rows are multiplied with: the weights of a panel as int8 tiles, and its scales as floats.
template <Format format>
struct Panel {
    static constexpr bool kMinima = format == Format::q4;
    static constexpr int kScales = (kMinima ? 2 : 1) * kPanelRows;  // of a group: scales, then minima
    static constexpr size_t kTileStride = format == Format::q8 ? kQ8GroupBytes : size_t(kGroup) * kPanelRows;

    const uint8_t* packed;
    const int8_t* tiles;
    float* scales;

    Panel(const uint8_t* w, int groups, Scratch& scratch)
        : packed(w), tiles((const int8_t*)w), scales(scratch.scales.reserve<float>(size_t(groups) * kScales)) {
        if (format != Format::q8) tiles = scratch.tiles.reserve<int8_t>(groups * kTileStride);
    }
    void unpack(int begin, int end) const;
};

__m512 load_half(const uint8_t* p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)p)); }

template <>
void Panel<Format::q4>::unpack(int begin, int end) const {
    const __m512i nibble = _mm512_set1_epi8(15);
    for (int g = begin; g < end; ++g) {
        const uint8_t* w = packed + size_t(g) * kQ4GroupBytes;
        int8_t* tile = const_cast<int8_t*>(tiles) + g * kTileStride;
        float* scale = scales + size_t(g) * kScales;
        for (int c = 0; c < 4; ++c) {
            const __m512i bytes = _mm512_loadu_si512(w + 64 * c);
            _mm512_store_si512(tile + 64 * c, _mm512_and_si512(bytes, nibble));
            _mm512_store_si512(tile + 64 * (4 + c), _mm512_and_si512(_mm512_srli_epi16(bytes, 4), nibble));
        }
        _mm512_store_ps(scale, load_half(w + kQ4Nibbles));
        _mm512_store_ps(scale + kPanelRows, load_half(w + kQ4Nibbles + 2 * kPanelRows));
    }
}

template <>
void Panel<Format::q6>::unpack(int begin, int end) const {
    for (int g = begin; g < end; ++g) {
        const uint8_t* w = packed + size_t(g) * kQ6GroupBytes;
        avx512vnni::expand_q6(w, const_cast<int8_t*>(tiles) + g * kTileStride);
        _mm512_store_ps(scales + size_t(g) * kScales, load_half(w + kQ6Bytes));
    }
}

template <>
void Panel<Format::q8>::unpack(int begin, int end) const {  // its bytes lie as a tile wants them
    for (int g = begin; g < end; ++g)
        _mm512_store_ps(scales + size_t(g) * kScales, load_half(packed + size_t(g) * kQ8GroupBytes + kQ8Bytes));
}

template <int sums, int rows, int weights>
inline void dots_of_group(const int8_t* values, const int8_t* tile) {
    load_tile<rows>(values, kGroup);
    load_tile<weights>(tile, kTileBytes);
    zero_tile<sums>();
    add_product<sums, rows, weights>();
}

// `values` and `tile` are of the first group; `row_stride` leads to the rows' next one.
template <int Rows>
inline void dots_of_groups(const int8_t* values, size_t row_stride, const int8_t* tile, size_t tile_stride, int count,
                           Scratch& scratch) {
    int g = 0;
    if constexpr (Rows == kTileRows)
        for (; g + 2 <= count; g += 2) {
            dots_of_group<kSums, kRows, kWeights>(values + row_stride * g, tile + tile_stride * g);
            dots_of_group<kSums + 1, kRows + 1, kWeights + 1>(values + row_stride * (g + 1), tile + tile_stride * (g + 1));
            store_tile<kSums>(scratch.dots[g]);
            store_tile<kSums + 1>(scratch.dots[g + 1]);
        }
    for (; g < count; ++g) {
        constexpr int sums = Rows == kTileRows ? kSums : kHalfSums, rows = Rows == kTileRows ? kRows : kHalfActivations;
        dots_of_group<sums, rows, kWeights>(values + row_stride * g, tile + tile_stride * g);
        store_tile<sums>(scratch.dots[g]);
    }
}

// `Rows` rows from `row` on, of which `count` are wanted; the others are whatever the buffers hold.
template <int Rows, bool unpack, Format format>
void panel_tile(const Panel<format>& panel, const Activations& in, int row, int count, Scratch& scratch, float* out,
                size_t stride, bool accumulate) {
    __m512 total[Rows];  // in registers
    each<Rows>([&](auto r) TW_LAMBDA { total[r] = _mm512_setzero_ps(); });
    size_t cell = in.cell(row, 0);
    for (int begin = 0; begin < in.groups; begin += kBatch) {
        const int end = std::min(begin + kBatch, in.groups);
        if constexpr (unpack) panel.unpack(begin, end);
        dots_of_groups<Rows>(in.values + cell * kGroup, size_t(in.tile_rows) * kGroup,
                             panel.tiles + panel.kTileStride * begin, panel.kTileStride, end - begin, scratch);
        const float* scales = panel.scales + size_t(begin) * panel.kScales;
        for (int g = begin; g < end; ++g, cell += size_t(in.tile_rows), scales += panel.kScales) {
            const __m512 scale = _mm512_load_ps(scales), least = _mm512_load_ps(scales + panel.kScales - kPanelRows);
            const float *row_scale = in.scale + cell, *scaled_sum = in.scaled_sum + cell;
            each<Rows>([&](auto r) TW_LAMBDA {
                const __m512 dots = _mm512_cvtepi32_ps(_mm512_load_si512(scratch.dots[g - begin][r]));
                total[r] = _mm512_fmadd_ps(_mm512_mul_ps(scale, _mm512_set1_ps(row_scale[r])), dots, total[r]);
                if constexpr (Panel<format>::kMinima) total[r] = _mm512_fmadd_ps(least, _mm512_set1_ps(scaled_sum[r]), total[r]);
                asm("" : "+v"(total[r]));  // else GCC gathers the additions and spills what it gathered
            });
        }
    }
    each<Rows>([&](auto r) TW_LAMBDA {
        if (r >= count) return;
        float* to = out + size_t(row + r) * stride;
        _mm512_storeu_ps(to, accumulate ? _mm512_add_ps(_mm512_loadu_ps(to), total[r]) : total[r]);
    });
}

// Groups are unpacked as the first rows come to them: what one tile of rows needs next stays in the first-level cache.
template <Format format>
void panel_rows(const Panel<format>& panel, const Activations& in, int rows, Scratch& scratch, float* out, size_t stride,
                bool accumulate) {
    if (rows <= kHalfRows)
        return panel_tile<kHalfRows, true>(panel, in, 0, rows, scratch, out, stride, accumulate);
    panel_tile<kTileRows, true>(panel, in, 0, std::min(kTileRows, rows), scratch, out, stride, accumulate);
    int row = kTileRows;
    for (; row + kHalfRows < rows; row += kTileRows)
        panel_tile<kTileRows, false>(panel, in, row, std::min(kTileRows, rows - row), scratch, out, stride, accumulate);
    if (row < rows) panel_tile<kHalfRows, false>(panel, in, row, rows - row, scratch, out, stride, accumulate);
}

template <Format format>
void product_of(const Matrix& m, int begin, int end, const Activations& in, int rows, float* out, size_t stride,
                bool accumulate) {
    static thread_local Scratch scratch;
    for (int p = begin; p < end; ++p, out += kPanelRows) {
        const Panel<format> panel(m.panel(p), in.groups, scratch);
        panel_rows(panel, in, rows, scratch, out, stride, accumulate);
    }
}

long ask_for_tiles() {  // Linux wants it before a process's first use (Documentation/arch/x86/xstate.rst)
    constexpr long kRequest = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILE_DATA
    return syscall(SYS_arch_prctl, kRequest, kTileData);
}

bool can_use_tiles() {
    unsigned a, b, c, features;
    if (!kAvx512VnniKernels.supported() || !__builtin_cpu_supports("avx512bf16")) return false;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &features)) return false;
    constexpr unsigned kBf16 = 1u << 22, kTiles = 1u << 24, kInt8 = 1u << 25, kAll = kBf16 | kTiles | kInt8;
    return (features & kAll) == kAll && ask_for_tiles() == 0;
}

}  // namespace

bool supported() {
    static const bool result = can_use_tiles();
    return result;
}

void product(const Matrix& m, int begin, int end, const Activations& in, int rows, float* out, size_t stride,
             bool accumulate) {
    if (m.format == Format::q4_wide) return product_wide(m, begin, end, in, rows, out, stride, accumulate);
    const int left = rows % kTileRows, by_vectors = left < kFewestRows ? left : 0, by_tiles = rows - by_vectors;
    if (m.format == Format::bf16 || by_tiles == 0)
        return kAvx512VnniKernels.product(m, begin, end, in, rows, out, stride, accumulate);
    configure_tiles(kConfiguration);
    if (m.format == Format::q4)
        product_of<Format::q4>(m, begin, end, in, by_tiles, out, stride, accumulate);
    else if (m.format == Format::q6)
        product_of<Format::q6>(m, begin, end, in, by_tiles, out, stride, accumulate);
    else
        product_of<Format::q8>(m, begin, end, in, by_tiles, out, stride, accumulate);
    release_tiles();
    if (by_vectors > 0)
        kAvx512VnniKernels.product(m, begin, end, in.from_row(by_tiles), by_vectors, out + size_t(by_tiles) * stride, stride,
                                   accumulate);
}

}  // namespace tokenworks::amx
