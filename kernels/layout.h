// How weights, activations and KV pages lie in memory. Shared by every instruction-set path.
//
// A *panel* is 16 output rows of a matrix. Inside a panel the inputs come in *groups* of 32, so that one
// load feeds the same 4 inputs of all rows while 4 activation bytes are broadcast:
//
//   Q4 group: 256 B nibbles, 16 fp16 scales, 16 fp16 minima   weight = scale * nibble + minimum
//             byte 64*c + 4*r + i holds row r, input 4*c+i (low nibble) and input 16+4*c+i (high)
//   Q6 group: 384 B codes, 16 fp16 scales                     weight = scale * (code - 32)
//             byte 64*c + 4*r + i holds row r, input 4*c+i in its low six bits, c < 6; the two bits above them, of
//             three c in a row, are a code too, low bits first: input 24+i of c = 0, 1, 2, input 28+i of c = 3, 4, 5
//   Q8 group: 512 B int8, 16 fp16 scales                      weight = scale * int8
//             byte 64*c + 4*r + i holds row r, input 4*c+i
//   BF16:     for each input, 16 bf16                         any number of inputs
#pragma once
#include <cstddef>
#include <cstdint>

namespace tokenworks {

constexpr int kPanelRows = 16;
constexpr int kGroup = 32;
constexpr int kTileRows = 16;  // of activations
constexpr int kPageTokens = 16;

constexpr int kQ4Nibbles = 256, kQ4GroupBytes = kQ4Nibbles + 64;
constexpr int kQ6Bytes = 384, kQ6GroupBytes = kQ6Bytes + 32;
constexpr int kQ8Bytes = 512, kQ8GroupBytes = kQ8Bytes + 32;

enum class Format { q4, q6, q8, bf16 };

constexpr int code_bytes_of(Format format) {  // of a group
    return format == Format::q4 ? kQ4Nibbles : format == Format::q6 ? kQ6Bytes : kQ8Bytes;
}
constexpr int group_bytes_of(Format format) {
    return format == Format::q4 ? kQ4GroupBytes : format == Format::q6 ? kQ6GroupBytes : kQ8GroupBytes;
}

struct Matrix {  // [rows, inputs]; rows are padded with zeros to whole panels
    Format format = Format::bf16;
    int rows = 0, inputs = 0;
    const uint8_t* data = nullptr;
    size_t panel_bytes = 0;
    size_t room = 0;  // bytes of memory at data

    int panels() const { return (rows + kPanelRows - 1) / kPanelRows; }
    const uint8_t* panel(int index) const { return data + panel_bytes * size_t(index); }
};

// Rows of activations as a product's input: int8 in groups of 32, float for bf16. What belongs to a group
// lies in *tiles* of 16 rows, so that a product of many rows reads it as vectors; buffers hold whole tiles.
struct Activations {
    int8_t* values;       // [rows, 32 * groups], symmetric, within ±127
    float* scale;         // [tiles, groups, 16]
    int32_t* sum;         // [tiles, groups, 16]: sum of the group's int8 values
    float* scaled_sum;    // [tiles, groups, 16]: scale * sum
    float* floats;        // [rows, stride]
    int groups;
    size_t stride;
    int first = 0;        // where in those tiles row 0 is

    // Place of a row's group in scale, sum and scaled_sum; that of the next group is kTileRows further.
    size_t cell(int row, int group) const {
        const int place = first + row;
        return (size_t(place / kTileRows) * groups + group) * kTileRows + place % kTileRows;
    }
    Activations from_row(int row) const {
        Activations view = *this;
        view.values += size_t(row) * groups * kGroup;
        view.floats += size_t(row) * stride;
        view.first += row;
        return view;
    }
    Activations from_group(int group) const {  // of the first row
        Activations view = *this;
        view.values += size_t(group) * kGroup;
        view.scale += group * kTileRows;
        view.sum += group * kTileRows;
        view.scaled_sum += group * kTileRows;
        return view;
    }
};

// One KV page of one layer and one KV head: keys transposed [head_dim][16], then values [16][head_dim], fp16.
struct KeyValues {
    uint16_t* base;      // of this layer
    size_t page_stride;  // in fp16 elements, all KV heads of one page
    int head_dim;

    size_t head_stride() const { return size_t(2) * kPageTokens * head_dim; }
    uint16_t* keys(int page, int head) const {
        return base + page_stride * size_t(page) + head_stride() * size_t(head);
    }
    uint16_t* values(int page, int head) const { return keys(page, head) + size_t(kPageTokens) * head_dim; }
};

// One query vector to attend with: `head_dim` floats (already scaled) that see tokens first…last.
struct Query {
    const float* query;
    float* out;
    int first, last;
};

}  // namespace tokenworks
