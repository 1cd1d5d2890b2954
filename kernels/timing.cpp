#include "timing.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>

#include "arena.h"
#include "pack.h"
#include "run.h"

namespace tokenworks {

std::vector<double> panel_seconds(const Kernels& kernels, int threads, int inputs, const std::vector<Format>& formats,
                                  int rows, size_t memory_bytes, size_t pass_bytes, int runs) {
    const size_t largest = size_t(inputs / kGroup) * group_bytes_of(Format::q8);
    const int panels = std::max(threads, int(pass_bytes / largest));  // of a pass
    const int places = std::max(1, int(memory_bytes / (largest * size_t(panels))));
    Arena arena;
    uint8_t* memory = arena.allocate(largest * size_t(panels) * size_t(places));
    std::memset(memory, 0x2B, largest * size_t(panels) * size_t(places));  // any bytes whose fp16 are ordinary numbers

    std::vector<float> x(size_t(inputs), 1.0f), out(size_t(rows) * size_t(panels) * kPanelRows);
    ActivationBuffer buffer;
    const Activations in = buffer.reserve(rows, inputs, inputs, kernels.widen != nullptr);
    for (int row = 0; row < rows; ++row) {
        kernels.quantise(x.data(), inputs, in.from_row(row));
        if (kernels.widen) kernels.quantise_wide(x.data(), inputs, in.from_row(row));
    }
    const std::vector<float> row_scales(size_t(panels) * kPanelRows, 1.0f);

    Team team(threads);
    Cursor cursor;
    std::vector<double> fastest(formats.size(), INFINITY);
    const int chunk = std::max(1, panels / (threads * 8));
    for (int run = 0; run <= runs; ++run)  // the first of them only wakes caches and threads
        for (size_t f = 0; f < formats.size(); ++f) {
            const Format format = held_in(kernels, formats[f]);
            Matrix matrix;
            matrix.format = format == Format::q4 && kernels.widen ? Format::q4_wide : format;
            matrix.row_scales = row_scales.data();
            matrix.rows = panels * kPanelRows;
            matrix.inputs = inputs;
            matrix.panel_bytes = size_t(inputs / kGroup) * group_bytes_of(format);
            matrix.data = memory + matrix.panel_bytes * size_t(panels) * size_t(run % places);
            cursor.next.store(0);
            const auto began = std::chrono::steady_clock::now();
            team.run(threads, [&](int) {
                for (int begin; (begin = cursor.next.fetch_add(chunk)) < panels;)
                    kernels.product(matrix, begin, std::min(panels, begin + chunk), in, rows,
                                    out.data() + size_t(begin) * kPanelRows, size_t(panels) * kPanelRows, false);
            });
            const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - began;
            if (run > 0) fastest[f] = std::min(fastest[f], seconds.count() / panels);
        }
    return fastest;
}

}  // namespace tokenworks
