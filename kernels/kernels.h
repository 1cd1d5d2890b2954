// The table of kernels that each instruction-set path fills in.
//
// Every kernel computes each output element by one fixed order of additions, whatever the number of rows
// it is called with: that is what makes answers independent of the batch.
#pragma once
#include <utility>  // product.inl counts with it

#include "attention.h"
#include "layout.h"
#include "source.h"

namespace tokenworks {

// The format whose groups a source's weights have, or come nearest to.
constexpr Format own_format(Source source) {
    using enum Source;
    return source == q4_0                      ? Format::q4_centred
           : source == q4_1 || source == q4_k ? Format::q4
           : source == q5_0                   ? Format::q6
                                              : Format::q8;
}

enum class Activation { silu, gelu_tanh, gelu };

constexpr int kLogitBlock = 256;

struct Kernels {
    const char* name;
    bool (*supported)();

    // `count` rows of a file, up to 16, as one panel of zeros in groups of `format`, which is no larger than the source's
    // own; every path makes the same bytes of them. `importance` of each input, null for all alike, is how much the square
    // of an error there counts where weights are rounded to q4 or q6.
    void (*pack_panel)(Source source, Format format, const uint8_t* const* rows, const float* importance, int count,
                       int inputs, uint8_t* out);

    // out[row * stride + i] (= or +=) sum over inputs of w[i] * in[row], for the rows of panels [begin, end).
    // `out` points at row 0, output 16 * begin.
    void (*product)(const Matrix& w, int begin, int end, const Activations& in, int rows, float* out,
                    size_t stride, bool accumulate);
    // y = x / rms(x) * weight; y may be x
    void (*rms_norm)(const float* x, const float* weight, float epsilon, int size, float* y);
    // y = (x - mean(x)) / deviation(x) * weight + bias; y may be x
    void (*layer_norm)(const float* x, const float* weight, const float* bias, float epsilon, int size, float* y);
    // x += y
    void (*add_to)(float* x, const float* y, int size);
    // One row to int8 groups; `size` is a multiple of 32.
    void (*quantise)(const float* x, int size, const Activations& out);
    // Of a path with wide products (layout.h), else null: a q4 panel becomes a wide one in place, `row_scales` are its
    // sixteen; one row becomes digits.
    void (*widen)(uint8_t* panel, int groups, float* row_scales);
    void (*quantise_wide)(const float* x, int size, const Activations& out);
    // gate = activation(gate), times up unless that is null; `size` is a multiple of 16.
    void (*activate)(Activation activation, float* gate, const float* up, int size);
    // The same for `rows` rows of one group, 32 floats apart, of which `size` count; quantised into the group of `out`.
    void (*activate_group)(Activation activation, float* gate, const float* up, int rows, int size, const Activations& out);
    // Rotate the pairs (x[i], x[i + half]); cosine and sine have `half` entries.
    void (*rotate)(float* x, const float* cosine, const float* sine, int half);
    // One token's key, and `count` dimensions of its value from `first` on (all of them where pages hold int8), into a page
    // of its sequence. `clear_after`: the values of the page's later tokens become 0.
    void (*store_key)(const float* key, const KeyValues& kv, int page, int head, int slot);
    void (*store_value)(const float* value, int first, int count, const KeyValues& kv, int page, int head, int slot,
                        bool clear_after);
    // Softmax attention of up to kQueryBlock queries of one KV head over the chunks [begin, end) of the sequence's tokens:
    // parts [count, part_floats(head_dim)]. `scratch` holds attention_scratch(head_dim) floats.
    void (*attend)(const Query* queries, int count, const KeyValues& kv, int kv_head, const int32_t* pages, int begin,
                   int end, float* scratch, float* parts);
    // Merges the parts of consecutive stretches of chunks, [stretches, count, part_floats(head_dim)], and writes each
    // query's result.
    void (*settle)(const Query* queries, int count, float* parts, int stretches, int head_dim);
    // The largest of each kLogitBlock logits; whether all of them are numbers, and none is infinite.
    bool (*largest_logits)(const float* logits, int count, float* blocks);
    // exp((logit - peak) * sharpness), or 0 where that exponent is below `cut`, whole blocks of them, and each block's sum.
    void (*weigh_logits)(const float* logits, int count, float peak, float sharpness, float cut, float* weights, float* sums);
};

extern const Kernels kPortableKernels;
#if defined(__x86_64__)
extern const Kernels kAvx2Kernels;
extern const Kernels kAvx512VnniKernels;
extern const Kernels kAvx512Bf16Kernels;
extern const Kernels kAmxKernels;
#elif defined(__aarch64__)
extern const Kernels kNeonI8mmKernels;
extern const Kernels kNeonKernels;
#endif

// Best first; the portable path is last and always supported.
extern const Kernels* const kAllKernels[];
extern const int kNumKernels;

}  // namespace tokenworks
