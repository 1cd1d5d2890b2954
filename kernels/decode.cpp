#include "decode.h"

#include <cstring>

#include "blocks.h"
#include "simd_portable.h"

namespace tokenworks::portable {
#include "decode.inl"
}

namespace tokenworks {

namespace {

template <Source source>
void decode_blocks(const uint8_t* row, int inputs, float* out) {
    constexpr Block block = block_of(source);
    for (int i = 0; i < inputs; i += block.weights, row += block.bytes) portable::weights_of<source>(row, out + i);
}

}  // namespace

void decode_row(Source source, const uint8_t* row, int inputs, float* out) {
    using enum Source;
    switch (source) {
        case f32: std::memcpy(out, row, size_t(inputs) * 4); return;
        case f16: for (int i = 0; i < inputs; ++i) out[i] = half_to_float(read16(row + 2 * i)); return;
        case bf16: for (int i = 0; i < inputs; ++i) out[i] = bf16_to_float(read16(row + 2 * i)); return;
        case q8_0: return decode_blocks<q8_0>(row, inputs, out);
        case q4_0: return decode_blocks<q4_0>(row, inputs, out);
        case q4_1: return decode_blocks<q4_1>(row, inputs, out);
        case q5_0: return decode_blocks<q5_0>(row, inputs, out);
        case q5_1: return decode_blocks<q5_1>(row, inputs, out);
        case iq4_nl: return decode_blocks<iq4_nl>(row, inputs, out);
        case q2_k: return decode_blocks<q2_k>(row, inputs, out);
        case q3_k: return decode_blocks<q3_k>(row, inputs, out);
        case q4_k: return decode_blocks<q4_k>(row, inputs, out);
        case q5_k: return decode_blocks<q5_k>(row, inputs, out);
        case q6_k: return decode_blocks<q6_k>(row, inputs, out);
        case q8_k: return decode_blocks<q8_k>(row, inputs, out);
        case iq4_xs: return decode_blocks<iq4_xs>(row, inputs, out);
    }
}

}  // namespace tokenworks
