#include "wide.h"

#include <immintrin.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "tiles.h"

namespace tokenworks::amx {

namespace {

constexpr int kPairs = kQ4Nibbles;   // where a group's factors and offsets begin
constexpr int kMostByVectors = 4;    // rows of a batch; more are faster by tiles
constexpr int kPairTile = 1024;      // bytes of one digit's tile: two groups of sixteen rows
constexpr int kWideStep = 2 * kGroup;

// Tile registers: sums of digits' products (activations' digit first), then the digits.
enum { kHighHigh, kHighLow, kLowHigh, kLowLow, kHigh, kLow, kWeightsHigh, kWeightsLow };

constexpr TileConfiguration configuration() {
    TileConfiguration c;
    for (int tile = 0; tile < 8; ++tile) c.set(tile, 16, kTileBytes);
    return c;
}
constexpr TileConfiguration kConfiguration = configuration();

// float of 128 * high + low, which may be beyond 32 bits.
TW_INLINE __m512 whole(__m512i high, __m512i low) {
    return _mm512_fmadd_ps(_mm512_cvtepi32_ps(high), _mm512_set1_ps(128.0f), _mm512_cvtepi32_ps(low));
}

TW_INLINE void put(float* out, __m512 total, __m512 row_scale, bool accumulate) {
    const __m512 value = _mm512_mul_ps(total, row_scale);
    _mm512_storeu_ps(out, accumulate ? _mm512_add_ps(_mm512_loadu_ps(out), value) : value);
}

TW_INLINE __m512i four_bytes(const int8_t* p) {
    int32_t bytes;
    __builtin_memcpy(&bytes, p, 4);
    return _mm512_set1_epi32(bytes);
}

template <int Rows>
void by_vectors(const Matrix& m, int panel, const Activations& in, float* out, size_t stride, bool accumulate) {
    const __m512i nibble = _mm512_set1_epi8(15);
    const uint8_t* w = m.panel(panel);
    const size_t rows = size_t(in.tile_rows);
    __m512 total[Rows];
    each<Rows>([&](auto r) TW_LAMBDA { total[r] = _mm512_setzero_ps(); });
    for (int block = 0; block < in.blocks(); ++block) {
        __m512i high[Rows], low[Rows];
        each<Rows>([&](auto r) TW_LAMBDA { high[r] = low[r] = _mm512_setzero_si512(); });
        const int begin = block * kWideBlock, end = std::min(begin + kWideBlock, in.groups);
        size_t cell = in.place(0, begin, in.groups), pair = in.place(0, begin / 2, in.pairs());
        for (int g = begin; g < end; ++g, w += kQ4GroupBytes, cell += rows, pair += g % 2 ? 0 : rows) {
            // Of each digit: sum of digit * (nibble - 8), exactly. It fits 16 bits, so that one instruction multiplies it
            // with the factor and the digits' sum with the offset.
            const int32_t* sums = in.wide.sums + cell * 4;
            const int8_t* high_digits = in.wide.high + pair * kWideStep + g % 2 * kGroup;
            const int8_t* low_digits = in.wide.low + pair * kWideStep + g % 2 * kGroup;
            __m512i high_dot[Rows], low_dot[Rows];
            each<Rows>([&](auto r) TW_LAMBDA {
                high_dot[r] = _mm512_set1_epi32(sums[4 * r]);
                low_dot[r] = _mm512_set1_epi32(sums[4 * r + 2]);
            });
            each<4>([&](auto c) TW_LAMBDA {
                const __m512i bytes = _mm512_loadu_si512(w + 64 * c);
                const __m512i a = _mm512_and_si512(bytes, nibble), b = _mm512_and_si512(_mm512_srli_epi16(bytes, 4), nibble);
                each<Rows>([&](auto r) TW_LAMBDA {  // rows side by side: each sum waits for itself alone
                    const int8_t *high = high_digits + r * kWideStep + 4 * c, *low = low_digits + r * kWideStep + 4 * c;
                    high_dot[r] = _mm512_dpbusd_epi32(high_dot[r], a, four_bytes(high));
                    low_dot[r] = _mm512_dpbusd_epi32(low_dot[r], a, four_bytes(low));
                    high_dot[r] = _mm512_dpbusd_epi32(high_dot[r], b, four_bytes(high + 16));
                    low_dot[r] = _mm512_dpbusd_epi32(low_dot[r], b, four_bytes(low + 16));
                });
            });
            const __m512i pairs = _mm512_loadu_si512(w + kPairs), low_word = _mm512_set1_epi32(0xFFFF);
            auto both = [&](__m512i dot, int32_t sum) TW_LAMBDA {  // the dot product's low word, above it the sum
                return _mm512_ternarylogic_epi32(dot, low_word, _mm512_set1_epi32(sum), 0xEA);
            };
            each<Rows>([&](auto r) TW_LAMBDA {
                high[r] = _mm512_dpwssd_epi32(high[r], both(high_dot[r], sums[4 * r + 1]), pairs);
                low[r] = _mm512_dpwssd_epi32(low[r], both(low_dot[r], sums[4 * r + 3]), pairs);
            });
        }
        const float* scale = in.wide.scale + in.place(0, block, in.blocks());
        each<Rows>([&](auto r) TW_LAMBDA { total[r] = _mm512_fmadd_ps(whole(high[r], low[r]), _mm512_set1_ps(scale[r]), total[r]); });
    }
    const __m512 row_scale = _mm512_loadu_ps(m.row_scales + panel * kPanelRows);
    each<Rows>([&](auto r) TW_LAMBDA { put(out + size_t(r) * stride, total[r], row_scale, accumulate); });
}

struct Scratch {  // of one thread
    Lines tiles;
    alignas(64) int32_t sums[4][kTileRows][kPanelRows];
};

// A group's weights as two bytes each, in the lines of both digits' tiles.
TW_INLINE void unpack(const uint8_t* w, uint8_t* high, uint8_t* low) {
    const __m512i four = _mm512_set1_epi16(15), low_byte = _mm512_set1_epi16(0xFF);
    const __m512i pairs = _mm512_loadu_si512(w + kPairs);
    const __m512i factor = _mm512_mask_blend_epi16(0xAAAAAAAA, pairs, _mm512_slli_epi32(pairs, 16));
    const __m512i offset = _mm512_sub_epi16(_mm512_mask_blend_epi16(0xAAAAAAAA, _mm512_srli_epi32(pairs, 16), pairs),
                                            _mm512_slli_epi16(factor, 3));
    auto weights = [&](__m512i codes) TW_LAMBDA { return _mm512_add_epi16(_mm512_mullo_epi16(codes, factor), offset); };
    auto store = [&](int line, __m512i even, __m512i odd) TW_LAMBDA {  // ternary logic: bits of the first where the mask is set
        _mm512_store_si512(high + 64 * line, _mm512_ternarylogic_epi32(low_byte, _mm512_srli_epi16(even, 8), odd, 0xCA));
        _mm512_store_si512(low + 64 * line, _mm512_ternarylogic_epi32(low_byte, even, _mm512_slli_epi16(odd, 8), 0xCA));
    };
#pragma GCC unroll 4
    for (int c = 0; c < 4; ++c) {
        const __m512i bytes = _mm512_loadu_si512(w + 64 * c);
        store(c, weights(_mm512_and_si512(bytes, four)), weights(_mm512_and_si512(_mm512_srli_epi16(bytes, 8), four)));
        store(4 + c, weights(_mm512_and_si512(_mm512_srli_epi16(bytes, 4), four)), weights(_mm512_srli_epi16(bytes, 12)));
    }
}

// Sixteen rows from `row` on, of which `count` are wanted; the others are whatever the buffers hold.
template <bool first>
void by_tiles(const Matrix& m, int panel, const Activations& in, int row, int count, uint8_t* tiles, Scratch& scratch,
              float* out, size_t stride, bool accumulate) {
    const uint8_t* w = m.panel(panel);
    const int pairs = in.pairs(), rows = in.tile_rows;
    const size_t row_stride = size_t(rows) * kWideStep;  // from one pair to the next
    size_t at = in.place(row, 0, pairs) * kWideStep;
    __m512 total[kTileRows];
    each<kTileRows>([&](auto r) TW_LAMBDA { total[r] = _mm512_setzero_ps(); });
    for (int block = 0; block < in.blocks(); ++block) {
        zero_tile<kHighHigh>();
        zero_tile<kHighLow>();
        zero_tile<kLowHigh>();
        zero_tile<kLowLow>();
        const int end = std::min((block + 1) * kWideBlock / 2, pairs);
        for (int pair = block * kWideBlock / 2; pair < end; ++pair, at += row_stride) {
            uint8_t *high = tiles + size_t(pair) * 2 * kPairTile, *low = high + kPairTile;
            if constexpr (first) {
                for (int g = 2 * pair; g < std::min(2 * pair + 2, in.groups); ++g)
                    unpack(w + size_t(g) * kQ4GroupBytes, high + g % 2 * kPairTile / 2, low + g % 2 * kPairTile / 2);
            }
            load_tile<kHigh>(in.wide.high + at, kWideStep);
            load_tile<kWeightsHigh>(high, kTileBytes);
            add_product<kHighHigh, kHigh, kWeightsHigh>();
            load_tile<kWeightsLow>(low, kTileBytes);
            add_product_unsigned<kHighLow, kHigh, kWeightsLow>();
            load_tile<kLow>(in.wide.low + at, kWideStep);
            add_product<kLowHigh, kLow, kWeightsHigh>();
            add_product_unsigned<kLowLow, kLow, kWeightsLow>();
        }
        store_tile<kHighHigh>(scratch.sums[kHighHigh]);
        store_tile<kHighLow>(scratch.sums[kHighLow]);
        store_tile<kLowHigh>(scratch.sums[kLowHigh]);
        store_tile<kLowLow>(scratch.sums[kLowLow]);
        const float* scale = in.wide.scale + in.place(row, block, in.blocks());
        each<kTileRows>([&](auto r) TW_LAMBDA {
            auto of = [&](int tile) TW_LAMBDA { return _mm512_load_si512(scratch.sums[tile][r]); };
            const __m512i high = _mm512_add_epi32(_mm512_slli_epi32(of(kHighHigh), 8), of(kHighLow));
            const __m512i low = _mm512_add_epi32(_mm512_slli_epi32(of(kLowHigh), 8), of(kLowLow));
            total[r] = _mm512_fmadd_ps(whole(high, low), _mm512_set1_ps(scale[r]), total[r]);
        });
    }
    const __m512 row_scale = _mm512_loadu_ps(m.row_scales + panel * kPanelRows);
    each<kTileRows>([&](auto r) TW_LAMBDA {
        if (r < count) put(out + size_t(row + r) * stride, total[r], row_scale, accumulate);
    });
}

}  // namespace

void product_wide(const Matrix& m, int begin, int end, const Activations& in, int rows, float* out, size_t stride,
                  bool accumulate) {
    if (in.tile_rows <= kMostByVectors) {
        for (int p = begin; p < end; ++p, out += kPanelRows) {
            switch (rows) {
                case 1: by_vectors<1>(m, p, in, out, stride, accumulate); break;
                case 2: by_vectors<2>(m, p, in, out, stride, accumulate); break;
                case 3: by_vectors<3>(m, p, in, out, stride, accumulate); break;
                default: by_vectors<4>(m, p, in, out, stride, accumulate); break;
            }
        }
        return;
    }
    static thread_local Scratch scratch;
    auto* tiles = scratch.tiles.reserve<uint8_t>(size_t(in.pairs()) * 2 * kPairTile);
    configure_tiles(kConfiguration);
    for (int p = begin; p < end; ++p, out += kPanelRows) {
        by_tiles<true>(m, p, in, 0, std::min(rows, kTileRows), tiles, scratch, out, stride, accumulate);
        for (int row = kTileRows; row < rows; row += kTileRows)
            by_tiles<false>(m, p, in, row, std::min(rows - row, kTileRows), tiles, scratch, out, stride, accumulate);
    }
    release_tiles();
}

void quantise_wide(const float* x, int size, const Activations& out) {
    const int groups = size / kGroup;
    const size_t rows = size_t(out.tile_rows);
    size_t cell = out.place(0, 0, out.groups), pair = out.place(0, 0, out.pairs());
    for (int block = 0; block * kWideBlock < groups; ++block) {
        const int begin = block * kWideBlock, end = std::min(begin + kWideBlock, groups);
        __m512 largest = _mm512_setzero_ps();
        for (int i = begin * kGroup; i < end * kGroup; i += 16)
            largest = _mm512_max_ps(largest, _mm512_abs_ps(_mm512_loadu_ps(x + i)));
        const float most = _mm512_reduce_max_ps(largest), inverse = most > 0.0f ? kMostDigits / most : 0.0f;
        out.wide.scale[out.place(0, block, out.blocks())] = most / kMostDigits;
        for (int g = begin; g < end; ++g, cell += rows, pair += g % 2 ? 0 : rows) {
            const size_t at = pair * kWideStep + g % 2 * kGroup;
            __m512i high_sum = _mm512_setzero_si512(), low_sum = high_sum;
#pragma GCC unroll 2
            for (int i = 0; i < kGroup; i += 16) {
                const __m512 scaled = _mm512_mul_ps(_mm512_loadu_ps(x + g * kGroup + i), _mm512_set1_ps(inverse));
                const __m512i steps = _mm512_cvtps_epi32(scaled);
                const __m512i high = _mm512_srai_epi32(_mm512_add_epi32(steps, _mm512_set1_epi32(64)), 7);
                const __m512i low = _mm512_sub_epi32(steps, _mm512_slli_epi32(high, 7));
                _mm_storeu_si128((__m128i*)(out.wide.high + at + i), _mm512_cvtepi32_epi8(high));
                _mm_storeu_si128((__m128i*)(out.wide.low + at + i), _mm512_cvtepi32_epi8(low));
                high_sum = _mm512_add_epi32(high_sum, high);
                low_sum = _mm512_add_epi32(low_sum, low);
            }
            if (out.tile_rows > kMostByVectors) continue;  // tiles need no sums
            const int32_t high = _mm512_reduce_add_epi32(high_sum), low = _mm512_reduce_add_epi32(low_sum);
            int32_t* sums = out.wide.sums + cell * 4;
            sums[0] = -8 * high, sums[1] = int32_t(uint32_t(high) << 16);
            sums[2] = -8 * low, sums[3] = int32_t(uint32_t(low) << 16);
        }
    }
    if (groups % 2) {  // the pair's other half
        __builtin_memset(out.wide.high + pair * kWideStep + kGroup, 0, kGroup);
        __builtin_memset(out.wide.low + pair * kWideStep + kGroup, 0, kGroup);
    }
}

void widen(uint8_t* panel, int groups, float* row_scales) {
    float largest[kPanelRows] = {};
    std::vector<float> scale(size_t(groups) * kPanelRows), middle(scale.size());
    for (int g = 0; g < groups; ++g)
        for (int r = 0; r < kPanelRows; ++r) {
            const uint8_t* halves = panel + size_t(g) * kQ4GroupBytes + kQ4Nibbles + 2 * r;
            const float s = half_to_float(read16(halves)), least = half_to_float(read16(halves + 2 * kPanelRows));
            const size_t at = size_t(g) * kPanelRows + r;
            scale[at] = s, middle[at] = least + 8.0f * s;
            largest[r] = std::max({largest[r], std::fabs(least), std::fabs(least + 15.0f * s)});
        }
    // A little less than kMostWide, since factor and offset are rounded apart: at most 8 / 2 + 1 / 2.
    for (int r = 0; r < kPanelRows; ++r) row_scales[r] = std::isfinite(largest[r]) ? largest[r] / (kMostWide - 5) : 0.0f;
    for (int g = 0; g < groups; ++g)
        for (int r = 0; r < kPanelRows; ++r) {
            const size_t at = size_t(g) * kPanelRows + r;
            const float step = row_scales[r];
            const int16_t pair[2] = {int16_t(step > 0.0f ? std::nearbyint(scale[at] / step) : 0.0f),
                                     int16_t(step > 0.0f ? std::nearbyint(middle[at] / step) : 0.0f)};
            __builtin_memcpy(panel + size_t(g) * kQ4GroupBytes + kPairs + 4 * r, pair, 4);
        }
}

}  // namespace tokenworks::amx
