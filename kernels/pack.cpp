#include "pack.h"

#include <sys/mman.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <new>
#include <vector>

#include "simd_portable.h"

namespace tokenworks {

namespace {

using portable::bits_to_float;
using portable::float_to_half;
using portable::half_to_float;

constexpr size_t kHugePage = size_t(2) << 20, kBlockBytes = size_t(64) << 20;

uint16_t read16(const uint8_t* p) {
    uint16_t x;
    std::memcpy(&x, p, 2);
    return x;
}

uint16_t float_to_bf16(float x) {
    uint32_t bits;
    std::memcpy(&bits, &x, 4);
    if ((bits & 0x7FFFFFFF) > 0x7F800000) return uint16_t(bits >> 16 | 0x40);
    return uint16_t((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

int block_bytes(Source source) {
    switch (source) {
        case Source::q8_0: return 34;
        case Source::q4_0: return 18;
        case Source::q4_1: return 20;
        default: return 0;
    }
}

Format format_for(Source source, int inputs) {
    if (source == Source::q4_0 || source == Source::q4_1) return Format::q4;
    return inputs % kGroup == 0 ? Format::q8 : Format::bf16;
}

// One group (32 inputs) of one row into its place in the panel's group.
void pack_q4(Source source, const uint8_t* block, int lane, uint8_t* group) {
    const uint8_t* nibbles = block + (source == Source::q4_1 ? 4 : 2);
    for (int c = 0; c < 4; ++c) std::memcpy(group + 64 * c + 4 * lane, nibbles + 4 * c, 4);
    const uint16_t scale = read16(block);
    // Q4_0 is scale * (nibble - 8): a power of two times the scale, exact in fp16 unless it overflows.
    const uint16_t least = source == Source::q4_1 ? read16(block + 2) : float_to_half(-8.0f * half_to_float(scale));
    std::memcpy(group + kQ4Nibbles + 2 * lane, &scale, 2);
    std::memcpy(group + kQ4Nibbles + 32 + 2 * lane, &least, 2);
}

void pack_q8(const int8_t* values, uint16_t scale, int lane, uint8_t* group) {
    for (int c = 0; c < 8; ++c) std::memcpy(group + 64 * c + 4 * lane, values + 4 * c, 4);
    std::memcpy(group + kQ8Bytes + 2 * lane, &scale, 2);
}

void quantise_q8(const float* x, int lane, uint8_t* group) {
    float largest = 0;
    for (int i = 0; i < kGroup; ++i) largest = std::max(largest, std::fabs(x[i]));
    const uint16_t scale = float_to_half(largest / 127.0f);
    const float step = half_to_float(scale);
    int8_t values[kGroup];
    for (int i = 0; i < kGroup; ++i)
        values[i] = step > 0 ? int8_t(std::clamp(std::nearbyint(x[i] / step), -127.0f, 127.0f)) : int8_t(0);
    pack_q8(values, scale, lane, group);
}

struct Job {
    Source source;
    const uint8_t* raw;
    const int* order;
    Matrix matrix;
    uint8_t* out;
};

void pack_row(const Job& job, int row, float* floats) {
    const Matrix& m = job.matrix;
    const uint8_t* from = job.raw + row_bytes(job.source, m.inputs) * size_t(job.order ? job.order[row] : row);
    uint8_t* panel = job.out + m.panel_bytes * size_t(row / kPanelRows);
    const int lane = row % kPanelRows, groups = m.inputs / kGroup;
    if (m.format == Format::q4) {
        for (int g = 0; g < groups; ++g)
            pack_q4(job.source, from + g * block_bytes(job.source), lane, panel + size_t(g) * kQ4GroupBytes);
    } else if (job.source == Source::q8_0) {
        for (int g = 0; g < groups; ++g) {
            const uint8_t* block = from + g * block_bytes(job.source);
            int8_t values[kGroup];
            for (int i = 0; i < kGroup; ++i) values[i] = std::max<int8_t>(int8_t(block[2 + i]), -127);
            pack_q8(values, read16(block), lane, panel + size_t(g) * kQ8GroupBytes);
        }
    } else {
        decode_row(job.source, from, m.inputs, floats);
        if (m.format == Format::q8)
            for (int g = 0; g < groups; ++g) quantise_q8(floats + g * kGroup, lane, panel + size_t(g) * kQ8GroupBytes);
        else
            for (int i = 0; i < m.inputs; ++i) {
                const uint16_t bits = float_to_bf16(floats[i]);
                std::memcpy(panel + (size_t(i) * kPanelRows + lane) * 2, &bits, 2);
            }
    }
}

}  // namespace

size_t row_bytes(Source source, int inputs) {
    if (source == Source::f32) return size_t(inputs) * 4;
    if (source == Source::f16 || source == Source::bf16) return size_t(inputs) * 2;
    return size_t(inputs / kGroup) * block_bytes(source);
}

void decode_row(Source source, const uint8_t* row, int inputs, float* out) {
    if (source == Source::f32) {
        std::memcpy(out, row, size_t(inputs) * 4);
    } else if (source == Source::f16) {
        for (int i = 0; i < inputs; ++i) out[i] = half_to_float(read16(row + 2 * i));
    } else if (source == Source::bf16) {
        for (int i = 0; i < inputs; ++i) out[i] = bits_to_float(uint32_t(read16(row + 2 * i)) << 16);
    } else {
        for (int g = 0; g < inputs / kGroup; ++g, row += block_bytes(source), out += kGroup) {
            const float scale = half_to_float(read16(row));
            if (source == Source::q8_0) {
                for (int i = 0; i < kGroup; ++i) out[i] = scale * float(int8_t(row[2 + i]));
                continue;
            }
            const bool has_least = source == Source::q4_1;
            const float least = has_least ? half_to_float(read16(row + 2)) : -8.0f * scale;
            const uint8_t* nibbles = row + (has_least ? 4 : 2);
            for (int i = 0; i < 16; ++i) {
                out[i] = scale * float(nibbles[i] & 15) + least;
                out[16 + i] = scale * float(nibbles[i] >> 4) + least;
            }
        }
    }
}

Arena::~Arena() {
    for (const Block& block : blocks_) munmap(block.data, block.bytes);
}

uint8_t* Arena::allocate(size_t bytes) {
    bytes = (bytes + 63) / 64 * 64;
    if (bytes > left_) {
        const size_t size = (std::max(bytes, kBlockBytes) + kHugePage - 1) / kHugePage * kHugePage;
        void* p = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (p == MAP_FAILED) throw std::bad_alloc();
#ifdef MADV_HUGEPAGE
        madvise(p, size, MADV_HUGEPAGE);
#endif
        blocks_.push_back({static_cast<uint8_t*>(p), size});
        left_ = size;
    }
    const Block& block = blocks_.back();
    uint8_t* at = block.data + (block.bytes - left_);
    left_ -= bytes;
    used_ += bytes;
    return at;
}

Matrix pack(Arena& arena, Team& team, Source source, const uint8_t* raw, int rows, int inputs, const int* order) {
    Matrix m;
    m.format = format_for(source, inputs);
    m.rows = rows;
    m.inputs = inputs;
    const size_t groups = size_t(inputs / kGroup);
    m.panel_bytes = m.format == Format::q4   ? groups * kQ4GroupBytes
                    : m.format == Format::q8 ? groups * kQ8GroupBytes
                                             : size_t(inputs) * kPanelRows * 2;
    uint8_t* data = arena.allocate(m.panel_bytes * size_t(m.panels()));
    m.data = data;

    const Job job{source, raw, order, m, data};
    Cursor cursor;
    std::vector<float> rows_of_all(size_t(team.size()) * inputs);
    team.run(team.size(), [&](int thread) {
        float* floats = rows_of_all.data() + size_t(thread) * inputs;
        for (int p; (p = cursor.next.fetch_add(1)) < m.panels();)
            for (int row = p * kPanelRows; row < std::min(rows, (p + 1) * kPanelRows); ++row)
                pack_row(job, row, floats);
    });
    return m;
}

}  // namespace tokenworks
