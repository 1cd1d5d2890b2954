#include "pack.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "decode.h"
#include "halves.h"

namespace tokenworks {

namespace {

constexpr size_t kPartBytes = size_t(4) << 20;  // of the file, packed between two releases

size_t panel_bytes(Format format, int inputs) {
    return format == Format::bf16 ? size_t(inputs) * kPanelRows * 2 : size_t(inputs / kGroup) * group_bytes_of(format);
}

// Floats whose rows are no whole groups: rare and small, so one number at a time.
void pack_bf16(Source source, const uint8_t* const* rows, int count, int inputs, uint8_t* out) {
    const int bytes = block_of(source).bytes;
    for (int r = 0; r < count; ++r)
        for (int i = 0; i < inputs; ++i) {
            float x;
            decode_row(source, rows[r] + size_t(i) * bytes, 1, &x);
            const uint16_t bits = float_to_bf16(x);
            std::memcpy(out + (size_t(i) * kPanelRows + r) * 2, &bits, 2);
        }
}

}  // namespace

Format format_for(Source source, int inputs, std::optional<Format> wanted) {
    if (inputs % kGroup != 0) return Format::bf16;
    return wanted ? std::min(own_format(source), *wanted) : own_format(source);
}

Format held_in(const Kernels& kernels, Format format) {
    return format == Format::q4_centred && kernels.widen ? Format::q4 : format;
}

Matrix pack(const Kernels& kernels, Arena& arena, Team& team, const Tensor& tensor, int rows, int inputs,
            const int* order, const Wanted& wanted, const Matrix& before) {
    Matrix m;
    m.format = held_in(kernels, format_for(tensor.source, inputs, wanted.format));
    m.rows = rows;
    m.inputs = inputs;
    m.panel_bytes = panel_bytes(m.format, inputs);
    const size_t bytes = m.panel_bytes * size_t(m.panels());
    uint8_t* data;
    if (before.room >= bytes) {
        data = const_cast<uint8_t*>(before.data);
        std::memset(data, 0, bytes);
        m.room = before.room;
    } else {
        data = arena.allocate(bytes);
        m.room = bytes;
    }
    m.data = data;
    m.row_scales = before.row_scales;
    const Format format = m.format;
    float* row_scales = nullptr;
    if (format == Format::q4 && kernels.widen) {
        row_scales = const_cast<float*>(before.row_scales);
        if (!row_scales) row_scales = reinterpret_cast<float*>(arena.allocate(size_t(m.panels()) * kPanelRows * sizeof(float)));
        m.format = Format::q4_wide;
        m.row_scales = row_scales;
    }

    const size_t of_row = row_bytes(tensor.source, inputs);
    auto pack_one = [&](int panel) {
        const int first = panel * kPanelRows, count = std::min(kPanelRows, rows - first);
        const uint8_t* from[kPanelRows];
        for (int r = 0; r < count; ++r) from[r] = tensor.raw + of_row * size_t(order ? order[first + r] : first + r);
        uint8_t* out = data + m.panel_bytes * size_t(panel);
        if (m.format == Format::bf16)
            pack_bf16(tensor.source, from, count, inputs, out);
        else
            kernels.pack_panel(tensor.source, format, from, wanted.importance, count, inputs, out);
        if (row_scales) kernels.widen(out, inputs / kGroup, row_scales + panel * kPanelRows);
    };
    const int part = int(std::max<size_t>(1, kPartBytes / (of_row * kPanelRows)));  // panels
    for (int begin = 0; begin < m.panels(); begin += part) {
        const int end = std::min(m.panels(), begin + part);
        Cursor cursor;
        cursor.next.store(begin);
        team.run(team.size(), [&](int) {
            for (int panel; (panel = cursor.next.fetch_add(1)) < end;) pack_one(panel);
        });
        if (!order && end < m.panels()) tensor.release(of_row * kPanelRows * begin, of_row * kPanelRows * end);
    }
    tensor.release(0, of_row * size_t(rows));
    return m;
}

}  // namespace tokenworks
