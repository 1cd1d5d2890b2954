// The encodings of a model file's tensors, row by row: ggml's formats, by ggml's names.
#pragma once
#include <cstddef>
#include <cstdint>

namespace tokenworks {

enum class Source {
    f32, f16, bf16,
    q8_0, q4_0, q4_1, q5_0, q5_1, iq4_nl,
    q2_k, q3_k, q4_k, q5_k, q6_k, q8_k, iq4_xs
};

struct Block {  // consecutive weights of a row that are stored together
    const char* name;
    int weights, bytes;
};

constexpr int kSources = 16, kLargestBlock = 256;
constexpr Block kBlocks[kSources] = {
    {"F32", 1, 4},      {"F16", 1, 2},      {"BF16", 1, 2},
    {"Q8_0", 32, 34},   {"Q4_0", 32, 18},   {"Q4_1", 32, 20},
    {"Q5_0", 32, 22},   {"Q5_1", 32, 24},   {"IQ4_NL", 32, 18},
    {"Q2_K", 256, 84},  {"Q3_K", 256, 110}, {"Q4_K", 256, 144}, {"Q5_K", 256, 176},
    {"Q6_K", 256, 210}, {"Q8_K", 256, 292}, {"IQ4_XS", 256, 136},
};

constexpr const Block& block_of(Source source) { return kBlocks[int(source)]; }

}  // namespace tokenworks
