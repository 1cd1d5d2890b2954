// Holds wide products to plain integer arithmetic, bit for bit, by vectors as by tiles, and to the weights and
// activations that they were made of. Exits 1 at the first disagreement. Only for processors with AMX.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "../decode.h"
#include "../pack.h"
#include "../run.h"

using namespace tokenworks;

namespace {

std::mt19937 random_bits(7);
int checks = 0;

float uniform(float low, float high) { return low + (high - low) * (float(random_bits() >> 8) / 16777216.0f); }

void expect(bool holds, const std::string& what) {
    ++checks;
    if (holds) return;
    std::printf("FAILED: %s\n", what.c_str());
    std::exit(1);
}

// Q4_1 rows with groups of very different size, some of them all zeros, some of one value.
std::vector<uint8_t> encoded_rows(int rows, int inputs) {
    std::vector<uint8_t> raw(row_bytes(Source::q4_1, inputs) * size_t(rows));
    for (size_t at = 0; at < raw.size(); at += 20) {
        const uint32_t kind = random_bits() % 16;
        const uint16_t scale = kind == 0 ? 0 : uint16_t((kind == 1 ? 0x0400 : 0x1C00) + random_bits() % 0x1000);
        const uint16_t least = kind == 0 ? 0 : uint16_t(0x9C00 + random_bits() % 0x1800);
        std::memcpy(&raw[at], &scale, 2);
        std::memcpy(&raw[at + 2], &least, 2);
        for (int i = 4; i < 20; ++i) raw[at + size_t(i)] = uint8_t(random_bits());
    }
    return raw;
}

// The integer weight of one row and input, as the panel has it.
int weight_of(const Matrix& m, int row, int input) {
    const uint8_t* group = m.panel(row / kPanelRows) + size_t(input / kGroup) * kQ4GroupBytes;
    const int lane = row % kPanelRows, place = input % kGroup, within = place % 16;
    const uint8_t byte = group[64 * (within / 4) + 4 * lane + within % 4];
    int16_t pair[2];
    std::memcpy(pair, group + kQ4Nibbles + 4 * lane, 4);
    return pair[0] * ((place < 16 ? byte & 15 : byte >> 4) - 8) + pair[1];
}

void check(Team& team, int outputs, int inputs, int rows) {
    const std::string where = std::to_string(outputs) + "x" + std::to_string(inputs) + " rows " + std::to_string(rows);
    Arena arena;
    const auto raw = encoded_rows(outputs, inputs);
    const Matrix m = pack(kAmxKernels, arena, team, {Source::q4_1, raw.data()}, outputs, inputs, nullptr);
    expect(m.format == Format::q4_wide, "format " + where);

    std::vector<float> x(size_t(rows) * inputs);
    for (float& value : x) value = uniform(-1, 1) * (random_bits() % 50 == 0 ? 100.0f : 1.0f);
    if (rows > 1) std::fill_n(x.begin(), inputs, 0.0f);                  // a row of nothing
    if (rows > 2) std::fill_n(x.begin() + 2 * inputs, inputs, -3.0f);  // the largest sums that can occur
    ActivationBuffer buffer;
    const Activations in = buffer.reserve(rows, inputs, inputs, true);
    for (int row = 0; row < rows; ++row) kAmxKernels.quantise_wide(&x[size_t(row) * inputs], inputs, in.from_row(row));

    const size_t stride = size_t(m.panels()) * kPanelRows;
    std::vector<float> want(size_t(rows) * stride, 0.0f);
    std::vector<float> weights(static_cast<size_t>(inputs));
    for (int n = 0; n < outputs; ++n) {
        decode_row(Source::q4_1, raw.data() + row_bytes(Source::q4_1, inputs) * size_t(n), inputs, weights.data());
        for (int i = 0; i < inputs; ++i) {
            const int weight = weight_of(m, n, i);
            expect(std::abs(weight) <= kMostWide, "a weight too large, " + where);
            expect(std::fabs(double(weight) * m.row_scales[n] - weights[size_t(i)]) <= 5.0 * m.row_scales[n], "weight " + where);
        }
        for (int row = 0; row < rows; ++row) {
            float total = 0.0f;
            double exact = 0, most = 0;
            for (int block = 0; block < in.blocks(); ++block) {
                int64_t high = 0, low = 0;
                for (int i = block * kWideBlock * kGroup; i < std::min((block + 1) * kWideBlock * kGroup, inputs); ++i) {
                    const size_t at = in.place(row, i / (2 * kGroup), in.pairs()) * 2 * kGroup + size_t(i % (2 * kGroup));
                    high += int64_t(weight_of(m, n, i)) * in.wide.high[at];
                    low += int64_t(weight_of(m, n, i)) * in.wide.low[at];
                }
                expect(high == int32_t(high) && low == int32_t(low), "a sum leaves 32 bits, " + where);
                const float scale = in.wide.scale[in.place(row, block, in.blocks())];
                total = std::fma(std::fma(float(high), 128.0f, float(low)), scale, total);
            }
            want[size_t(row) * stride + n] = total * m.row_scales[n];
            for (int i = 0; i < inputs; ++i) {
                const double weight = weights[size_t(i)], value = x[size_t(row) * inputs + i];
                const double steps = in.wide.scale[in.place(row, i / kGroup / kWideBlock, in.blocks())];
                const double rounded = 5.0 * m.row_scales[n];  // at most, of the weight
                exact += weight * value;
                most += rounded * std::fabs(value) + (std::fabs(weight) + rounded) * 0.51 * steps + 1e-6 * std::fabs(weight * value);
            }
            expect(std::fabs(exact - want[size_t(row) * stride + n]) <= most, "near " + where);
        }
    }
    std::vector<float> out(want.size(), 1.0f), twice;
    kAmxKernels.product(m, 0, m.panels(), in, rows, out.data(), stride, false);
    for (int row = 0; row < rows; ++row)
        expect(std::memcmp(&out[size_t(row) * stride], &want[size_t(row) * stride], size_t(outputs) * 4) == 0,
               "product " + where + " row " + std::to_string(row));
    twice = out;
    kAmxKernels.product(m, 0, m.panels(), in, rows, twice.data(), stride, true);
    for (size_t i = 0; i < out.size(); ++i) expect(twice[i] == out[i] + out[i], "accumulates wrongly " + where);
}

}  // namespace

int main() {
    if (!kAmxKernels.supported()) {
        std::printf("no AMX\n");
        return 1;
    }
    Team team(1);
    for (int outputs : {1, 16, 40})
        for (int inputs : {32, 64, 96, 576, 1024, 1056, 2048})
            for (int rows : {1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 35}) check(team, outputs, inputs, rows);
    std::printf("%d checks\n", checks);
}
