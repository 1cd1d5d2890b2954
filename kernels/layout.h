// How weights and activations lie in memory. Shared by every instruction-set path.
//
// A *panel* is 16 output rows of a matrix. Inside a panel the inputs come in *groups* of 32, so that one
// load feeds the same 4 inputs of all rows while 4 activation bytes are broadcast:
//
//   Q4 group: 256 B nibbles, 16 fp16 scales, 16 fp16 minima   weight = scale * nibble + minimum
//             byte 64*c + 4*r + i holds row r, input 4*c+i (low nibble) and input 16+4*c+i (high)
//   Centred Q4 group: the same without the minima              weight = scale * (nibble - 8)
//   Q6 group: 384 B codes, 16 fp16 scales                     weight = scale * (code - 32)
//             byte 64*c + 4*r + i holds row r, input 4*c+i in its low six bits, c < 6; the two bits above them, of
//             three c in a row, are a code too, low bits first: input 24+i of c = 0, 1, 2, input 28+i of c = 3, 4, 5
//   Q8 group: 512 B int8, 16 fp16 scales                      weight = scale * int8
//             byte 64*c + 4*r + i holds row r, input 4*c+i
//   Wide Q4 group: 256 B nibbles as above, 16 pairs of int16     weight = row's scale * (factor * (nibble - 8) + offset)
//             the pair of row r: its factor, then its offset; the bracket is within ±kMostWide
//   BF16:     for each input, 16 bf16                         any number of inputs
#pragma once
#include <cstddef>
#include <cstdint>

namespace tokenworks {

constexpr int kPanelRows = 16;
constexpr int kGroup = 32;
constexpr int kTileRows = 16;  // of activations
constexpr int kPageTokens = 16;

constexpr int kQ4Nibbles = 256, kQ4GroupBytes = kQ4Nibbles + 64, kQ4CentredGroupBytes = kQ4Nibbles + 32;
constexpr int kQ6Bytes = 384, kQ6GroupBytes = kQ6Bytes + 32;
constexpr int kQ8Bytes = 512, kQ8GroupBytes = kQ8Bytes + 32;

enum class Format { q4_centred, q4, q4_wide, q6, q8, bf16 };

constexpr int code_bytes_of(Format format) {  // of a group
    return format == Format::q8 ? kQ8Bytes : format == Format::q6 ? kQ6Bytes : kQ4Nibbles;
}
constexpr int group_bytes_of(Format format) {
    return format == Format::q8           ? kQ8GroupBytes
           : format == Format::q6         ? kQ6GroupBytes
           : format == Format::q4_centred ? kQ4CentredGroupBytes
                                          : kQ4GroupBytes;
}

// A wide product is an exact integer over blocks of groups: of weights of 15 bits and activations of two digits, high and
// low, whose value is 128 * high + low. The block is as long as no sum can leave 32 bits:
// kMostWide * 127 * kGroup * kWideBlock < 2^31.
constexpr int kWideBlock = 32, kMostWide = 16383, kMostDigits = 127 * 128;

struct Matrix {  // [rows, inputs]; rows are padded with zeros to whole panels
    Format format = Format::bf16;
    int rows = 0, inputs = 0;
    const uint8_t* data = nullptr;
    size_t panel_bytes = 0;
    size_t room = 0;  // bytes of memory at data
    const float* row_scales = nullptr;  // [rows, rounded up to whole panels], of a wide matrix

    int panels() const { return (rows + kPanelRows - 1) / kPanelRows; }
    const uint8_t* panel(int index) const { return data + panel_bytes * size_t(index); }
};

// Rows of activations as the input of wide products. Tiles are those of Activations; of two groups, a pair, the bytes of
// one row follow each other.
struct WideActivations {
    int8_t *high, *low;  // [tiles, pairs, tile_rows, 64]; the second half of an odd last pair is zero
    int32_t* sums;       // [tiles, groups, tile_rows, 4]: of a group's digits -8 * sum of high, the same sum << 16; of low
    float* scale;        // [tiles, blocks, tile_rows]
};

// Rows of activations as a product's input: int8 in groups of 32, float for bf16. The groups lie in *tiles*
// of up to 16 rows: the first group of every row, then the second of every row, so that a product of many rows reads
// them as one piece. Fewer rows are one lower tile. Buffers end with room for kTileRows more groups.
struct Activations {
    int8_t* values;     // [tiles, groups, tile_rows, 32], symmetric, within ±127
    float* scale;       // [tiles, groups, tile_rows]
    int32_t* centre;    // [tiles, groups, tile_rows]: -8 * sum of the group's int8 values: where sums of products with
                        // nibbles begin whose weights are centred at 8
    float* scaled_sum;  // [tiles, groups, tile_rows]: scale * sum
    float* floats;      // [rows, stride]
    int groups;
    size_t stride;
    int tile_rows;
    WideActivations wide = {};
    int first = 0;  // where in those tiles row 0 is

    int pairs() const { return (groups + 1) / 2; }
    int blocks() const { return (groups + kWideBlock - 1) / kWideBlock; }
    // Place of a row's part `index` where each row has `count`: groups, pairs or blocks.
    size_t place(int row, int index, int count) const {
        const int at = first + row;
        return (size_t(at / tile_rows) * count + index) * tile_rows + at % tile_rows;
    }
    // Place of a row's group in scale, centre and scaled_sum; that of the next group is tile_rows further.
    size_t cell(int row, int group) const { return place(row, group, groups); }
    Activations from_row(int row) const {
        Activations view = *this;
        view.floats += size_t(row) * stride;
        view.first += row;
        return view;
    }
    Activations from_group(int group) const {
        Activations view = *this;
        const size_t cells = size_t(group) * tile_rows;
        view.values += cells * kGroup;
        view.scale += cells;
        view.centre += cells;
        view.scaled_sum += cells;
        return view;
    }
};

}  // namespace tokenworks
