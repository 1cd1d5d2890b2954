// Holds every instruction-set path to a plain double-precision reference, to itself row by row, and the paths with
// fused multiply-add to each other, bit for bit. Exits 1 at the first disagreement and says where.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "../decode.h"
#include "../kernels.h"
#include "../pack.h"

using namespace tokenworks;

namespace {

std::mt19937 random_bits(7);
int checks = 0;

float uniform(float low, float high) { return std::uniform_real_distribution<float>(low, high)(random_bits); }

std::vector<float> floats(size_t count, float low = -2, float high = 2) {
    std::vector<float> values(count);
    for (float& value : values) value = uniform(low, high);
    return values;
}

void expect(bool holds, const std::string& what) {
    ++checks;
    if (holds) return;
    std::printf("FAILED: %s\n", what.c_str());
    std::exit(1);
}

// Of every result of the first path, so that runs on different architectures can be compared.
uint64_t digest = 0xcbf29ce484222325;

void add_to_digest(const void* data, size_t bytes) {
    for (size_t i = 0; i < bytes; ++i) digest = (digest ^ static_cast<const uint8_t*>(data)[i]) * 0x100000001b3;
}

void add_to_digest(const std::vector<float>& values) { add_to_digest(values.data(), values.size() * sizeof(float)); }

bool same(const std::vector<float>& a, const std::vector<float>& b) {
    return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

void expect_near(const std::vector<float>& got, const std::vector<double>& want, double tolerance, const std::string& what) {
    for (size_t i = 0; i < want.size(); ++i) {
        const double error = std::fabs(got[i] - want[i]);
        expect(error <= tolerance * (1 + std::fabs(want[i])),
               what + " at " + std::to_string(i) + ": " + std::to_string(got[i]) + ", not " + std::to_string(want[i]));
    }
}

struct Rows {  // activations with their own memory
    std::vector<int8_t> values;
    std::vector<float> scale, scaled_sum, floats;
    std::vector<int32_t> centre;
    Activations view;

    Rows(int rows, int size, std::vector<float> x) : floats(std::move(x)) {
        const int groups = (size + kGroup - 1) / kGroup;
        const int tile_rows = std::min(rows, kTileRows), tiles = (rows + tile_rows - 1) / tile_rows;
        scale.resize(size_t(tiles) * groups * tile_rows + kTileRows);
        values.resize(scale.size() * kGroup);
        scaled_sum.resize(scale.size());
        centre.resize(scale.size());
        view = {values.data(), scale.data(), centre.data(), scaled_sum.data(), floats.data(), groups, size_t(size), tile_rows};
    }
};

// A path with wide products packs Q4_0 with the minima that it will overwrite.
bool packs(Source source, Format format) {
    return format <= own_format(source) ? format != Format::q4_centred || source == Source::q4_0
                                        : format == Format::q4 && source == Source::q4_0;
}

// The quants of a format, and two of them without which a group's floats would not be exact in it.
struct Quants { int least, most, first, second; };

Quants quants_of(std::optional<Format> format) {
    if (format == Format::q4) return {-8, 7, -8, 7};
    return format == Format::q6 ? Quants{-32, 31, -32, 31} : Quants{-127, 127, 127, -127};
}

std::vector<uint8_t> encoded_rows(Source source, int rows, int inputs, std::optional<Format> format) {
    std::vector<uint8_t> raw(row_bytes(source, inputs) * size_t(rows));
    if (source == Source::f32) {
        // Multiples of 1/64 with the outermost in each group: exact in groups of the format and as bf16.
        const Quants quants = quants_of(format);
        std::vector<float> values;
        for (int i = 0; i < rows * inputs; ++i) {
            const int place = i % inputs % kGroup, drawn = quants.least + int(random_bits() % unsigned(quants.most - quants.least + 1));
            const bool extreme = random_bits() % 4 == 0;
            values.push_back(float(place == 0 ? quants.first : place == 1 ? quants.second : extreme ? quants.most : drawn) / 64);
        }
        std::memcpy(raw.data(), values.data(), raw.size());
        return raw;
    }
    for (uint8_t& byte : raw) byte = uint8_t(random_bits());
    if (source == Source::q8_0)  // no encoder emits -128; packing turns it into -127
        for (uint8_t& byte : raw) byte = byte == 0x80 ? 0x81 : byte;
    const size_t block = size_t(block_of(source).bytes);
    for (size_t at = 0; at < raw.size(); at += block) {  // sane fp16 scales: 2^-6 … 2^-5, and extremes of the codes
        const uint16_t scale = uint16_t(0x2400 + random_bits() % 0x400), least = uint16_t(0xA400 + random_bits() % 0x400);
        std::memcpy(&raw[at], &scale, 2);
        if (source == Source::q4_1) std::memcpy(&raw[at + 2], &least, 2);
        if (random_bits() % 8 == 0) std::memset(&raw[at + block - 16], 0xFF, 16);
    }
    return raw;
}

void check_product(const std::vector<const Kernels*>& paths, Team& team, Source source, int outputs, int inputs, int rows,
                   std::optional<Format> format = {}) {
    const std::string where = std::string("product ") + block_of(source).name + " " + std::to_string(outputs) + "x" +
                              std::to_string(inputs) + " rows " + std::to_string(rows);
    Arena arena;
    const auto raw = encoded_rows(source, outputs, inputs, format);
    const Matrix matrix = pack(*paths[0], arena, team, {source, raw.data()}, outputs, inputs, nullptr, {format});
    Rows in(rows, inputs, floats(size_t(rows) * inputs));
    const bool integers = matrix.format != Format::bf16;
    if (integers)
        for (int row = 0; row < rows; ++row)
            paths[0]->quantise(in.floats.data() + size_t(row) * inputs, inputs, in.view.from_row(row));
    if (integers && rows > 1) {  // the largest sums that can occur
        for (int i = 0; i < inputs; ++i) in.values[in.view.cell(0, i / kGroup) * kGroup + i % kGroup] = 127;
        for (int g = 0; g < in.view.groups; ++g) {
            const size_t cell = in.view.cell(0, g);
            in.centre[cell] = -8 * 127 * kGroup;
            in.scaled_sum[cell] = in.scale[cell] * 127 * kGroup;
        }
    }
    const size_t stride = size_t(matrix.panels()) * kPanelRows;
    std::vector<double> want(size_t(rows) * stride, 0.0);
    std::vector<float> weights(static_cast<size_t>(inputs));
    for (int n = 0; n < outputs; ++n) {
        decode_row(source, raw.data() + row_bytes(source, inputs) * size_t(n), inputs, weights.data());
        for (int row = 0; row < rows; ++row)
            for (int i = 0; i < inputs; ++i) {
                const size_t cell = integers ? in.view.cell(row, i / kGroup) : 0;
                const double x = integers ? double(in.scale[cell]) * in.values[cell * kGroup + i % kGroup]
                                          : double(in.floats[size_t(row) * inputs + i]);
                want[size_t(row) * stride + n] += weights[size_t(i)] * x;
            }
    }
    std::vector<std::vector<float>> results;
    for (const Kernels* path : paths) {
        std::vector<float> out(size_t(rows) * stride, 1.0f), single = out, twice;
        path->product(matrix, 0, matrix.panels(), in.view, rows, out.data(), stride, false);
        expect_near(out, want, 1e-4, where + " " + path->name);
        for (int row = 0; row < rows; ++row)
            for (int p = 0; p < matrix.panels(); ++p)
                path->product(matrix, p, p + 1, in.view.from_row(row), 1,
                              single.data() + size_t(row) * stride + size_t(p) * kPanelRows, stride, false);
        expect(same(out, single), where + " differs row by row on " + path->name);
        twice = out;
        path->product(matrix, 0, matrix.panels(), in.view, rows, twice.data(), stride, true);
        for (size_t i = 0; i < out.size(); ++i) expect(twice[i] == out[i] + out[i], where + " accumulates wrongly");
        results.push_back(out);
    }
    add_to_digest(results[0]);
    for (size_t i = 1; i + 1 < results.size(); ++i)  // all but the portable path, which is last
        expect(same(results[0], results[i]), where + " differs between " + paths[0]->name + " and " + paths[i]->name);
}

// Any bytes at all, among them scales that are infinite or no numbers.
void check_packing(const std::vector<const Kernels*>& paths, Source source, Format format, int inputs, int count) {
    const size_t bytes = row_bytes(source, inputs);
    std::vector<uint8_t> raw(bytes * size_t(count));
    for (uint8_t& byte : raw) byte = uint8_t(random_bits());
    const auto importance = floats(size_t(inputs), 0, 4);
    const uint8_t* rows[kPanelRows];
    for (int r = 0; r < count; ++r) rows[r] = raw.data() + bytes * size_t(r);
    std::vector<std::vector<uint8_t>> panels;
    for (const Kernels* path : paths) {
        panels.emplace_back(size_t(inputs / kGroup) * group_bytes_of(format));
        path->pack_panel(source, format, rows, importance.data(), count, inputs, panels.back().data());
        expect(panels.back() == panels[0], std::string("panels of ") + block_of(source).name + " differ on " + path->name);
    }
    add_to_digest(panels[0].data(), panels[0].size());
}

void check_rows(const std::vector<const Kernels*>& paths, int size) {
    const auto x = floats(size_t(size), -40, 40), other = floats(size_t(size));
    std::vector<std::vector<float>> norms, layer_norms, activated, turned;
    std::vector<std::vector<int8_t>> codes;
    double squares = 0, sum = 0, spread = 0;
    for (float value : x) squares += double(value) * value, sum += value;
    for (float value : x) spread += (value - sum / size) * (value - sum / size);
    std::vector<double> want_norm, want_layer_norm, want_sum, want_silu, want_gelu, want_gelu_tanh;
    for (int i = 0; i < size; ++i) {
        const double value = x[size_t(i)], weight = other[size_t(i)];
        want_norm.push_back(value / std::sqrt(squares / size + 1e-5) * weight);
        want_layer_norm.push_back((value - sum / size) / std::sqrt(spread / size + 1e-5) * weight + weight);
        want_sum.push_back(value + weight);
        want_silu.push_back(value / (1 + std::exp(-value)) * weight);
        want_gelu.push_back(value * (1 + std::erf(value / std::sqrt(2.0))) / 2);
        want_gelu_tanh.push_back(value * (1 + std::tanh(std::sqrt(2 / M_PI) * (value + 0.044715 * value * value * value))) / 2 *
                                 weight);
    }
    for (const Kernels* path : paths) {
        const std::string where = std::string(" of ") + std::to_string(size) + " on " + path->name;
        std::vector<float> y(static_cast<size_t>(size));
        path->rms_norm(x.data(), other.data(), 1e-5f, size, y.data());
        expect_near(y, want_norm, 1e-5, "rms_norm" + where);
        norms.push_back(y);
        y = x;
        path->layer_norm(y.data(), other.data(), other.data(), 1e-5f, size, y.data());
        expect_near(y, want_layer_norm, 1e-5, "layer_norm" + where);
        layer_norms.push_back(y);
        y = x;
        path->add_to(y.data(), other.data(), size);
        expect_near(y, want_sum, 1e-6, "add_to" + where);
        if (size % 16 == 0) {
            activated.emplace_back();
            auto check_activation = [&](Activation activation, const float* up, const std::vector<double>& want) {
                y = x;
                path->activate(activation, y.data(), up, size);
                expect_near(y, want, 1e-5, "activation" + where);
                activated.back().insert(activated.back().end(), y.begin(), y.end());
            };
            check_activation(Activation::silu, other.data(), want_silu);
            check_activation(Activation::gelu_tanh, other.data(), want_gelu_tanh);
            check_activation(Activation::gelu, nullptr, want_gelu);
        }
        if (size % 2 == 0) {
            std::vector<float> cosine, sine;
            for (int i = 0; i < size / 2; ++i) {
                cosine.push_back(float(std::cos(0.1 * i)));
                sine.push_back(float(std::sin(0.1 * i)));
            }
            y = x;
            path->rotate(y.data(), cosine.data(), sine.data(), size / 2);
            std::vector<double> want(static_cast<size_t>(size));
            for (int i = 0; i < size / 2; ++i) {
                const double a = x[size_t(i)], b = x[size_t(i + size / 2)], c = cosine[size_t(i)], s = sine[size_t(i)];
                want[size_t(i)] = a * c - b * s;
                want[size_t(i + size / 2)] = b * c + a * s;
            }
            expect_near(y, want, 1e-5, "rotate" + where);
            turned.push_back(y);
        }
        if (size % kGroup == 0) {
            Rows row(1, size, x);
            path->quantise(x.data(), size, row.view);
            for (int i = 0; i < size; ++i) {
                const float step = row.scale[row.view.cell(0, i / kGroup)];
                expect(std::fabs(row.values[size_t(i)] * step - x[size_t(i)]) <= 0.5001f * step, "quantise" + where);
            }
            codes.push_back(row.values);
        }
    }
    add_to_digest(norms[0]);
    for (const auto* of : {&layer_norms, &activated, &turned})
        if (!of->empty()) add_to_digest((*of)[0]);
    for (size_t i = 1; i < paths.size(); ++i) {
        if (!codes.empty()) expect(codes[i] == codes[0], "quantise differs between paths");
        if (i + 1 == paths.size()) break;
        expect(same(norms[i], norms[0]), "rms_norm differs between paths");
        expect(same(layer_norms[i], layer_norms[0]), "layer_norm differs between paths");
        if (!activated.empty()) expect(same(activated[i], activated[0]), "activation differs between paths");
        if (!turned.empty()) expect(same(turned[i], turned[0]), "rotate differs between paths");
    }
}

}  // namespace

int main() {
    std::vector<const Kernels*> paths;
#if defined(__x86_64__)
    if (kAvx2Kernels.supported()) paths.push_back(&kAvx2Kernels);
#ifdef TW_EMULATED
    paths.push_back(&kAvx512VnniKernels);
#else
    if (kAvx512VnniKernels.supported()) paths.push_back(&kAvx512VnniKernels);
    if (kAmxKernels.supported()) paths.push_back(&kAmxKernels);
#endif
#elif defined(__aarch64__)
    if (kNeonI8mmKernels.supported()) paths.push_back(&kNeonI8mmKernels);
    if (kNeonKernels.supported()) paths.push_back(&kNeonKernels);
#endif
    paths.push_back(&kPortableKernels);
    Team team(2);
    for (int source = 0; source < kSources; ++source)
        for (int count : {1, 5, 16})
            for (int groups : {1, 7, 8, 16})
                for (Format format : {Format::q4_centred, Format::q4, Format::q6, Format::q8})
                    if (groups * kGroup % kBlocks[source].weights == 0 && packs(Source(source), format))
                        check_packing(paths, Source(source), format, groups * kGroup, count);
    for (int outputs : {1, 16, 40})
        for (int inputs : {32, 96, 576})
            for (int rows : {1, 2, 3, 4, 5, 7, 8, 9, 12, 19, 33, 40}) {
                for (Source source : {Source::q4_0, Source::q4_1, Source::q5_0, Source::q8_0, Source::f32})
                    check_product(paths, team, source, outputs, inputs, rows);
                for (Format format : {Format::q4, Format::q6})
                    check_product(paths, team, Source::f32, outputs, inputs, rows, format);
            }
    for (int inputs : {1, 7, 50}) check_product(paths, team, Source::f32, 20, inputs, 5);
    for (int size : {1, 8, 16, 32, 48, 64, 576, 601}) check_rows(paths, size);
    std::printf("digest %016llx, %d checks on", static_cast<unsigned long long>(digest), checks);
    for (const Kernels* path : paths) std::printf(" %s", path->name);
    std::printf("\n");
}
