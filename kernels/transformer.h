// A transformer over a paged KV store: one call runs all layers for a batch of rows. What its blocks compute is
// said by `Shape`, after models/config.py; weights go by GGUF's names.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "crew.h"
#include "kernels.h"
#include "pack.h"
#include "team.h"

namespace tokenworks {

enum class NormPlace { before, around, after };

struct Shape {
    int layers = 0, hidden = 0, heads = 0, kv_heads = 0, head_dim = 0, feed_forward = 0, vocabulary = 0;
    float norm_epsilon = 0;
    bool layer_norms = false;  // else RMS norms
    NormPlace norms = NormPlace::before;
    Activation activation = Activation::silu;
    bool gated = true, causal = true;
    bool interleaved = false;  // rotated pairs are (2i, 2i + 1) in the file
    float query_scale = 1, embedding_scale = 1;
    int positions = 0;                       // rows of learned positions, 0: rotated
    std::vector<float> inverse_frequencies;  // one per rotated pair; may be fewer than head_dim / 2
    std::vector<float> window_frequencies;   // of layers with a window
    std::vector<int> windows;                // by layer: tokens that a token sees, itself included; 0: all
    KvFormat kv_format = KvFormat::bf16;

    int queries() const { return heads * head_dim; }
    int keys() const { return kv_heads * head_dim; }
    int pairs() const { return int(inverse_frequencies.size()); }
};

struct NormWeights {
    const float *weight = nullptr, *bias = nullptr;
};

struct Layer {
    Matrix query, key, value, output, gate, up, down;
    NormWeights before_attention, after_attention, before_feed_forward, after_feed_forward;
    const float *query_bias = nullptr, *key_bias = nullptr, *value_bias = nullptr, *output_bias = nullptr;
    const float *gate_bias = nullptr, *up_bias = nullptr, *down_bias = nullptr;
    const float *query_norm = nullptr, *key_norm = nullptr;
    int window = 0;
    size_t attention = 0;  // which of the forward's attentions is this layer's
};

// One sequence's rows in a batch; see executors/base.py.
struct SpanView {
    int row, start, length;
    const int32_t* pages;
};

struct Rows {  // of a batch
    int first, count;
};

struct Forms;

class Transformer {
public:
    Transformer(const Kernels& kernels, int threads, Shape shape);
    ~Transformer();

    // Weights are copied into panels, except the embedding: its rows are read from `raw` for as long as this lives.
    void set_embedding(Source source, const uint8_t* raw);
    // Rows and inputs of a matrix by its name without ".weight"; throws std::invalid_argument for an unknown one.
    std::pair<int, int> matrix_size(const std::string& name) const;
    int vector_size(const std::string& name) const;
    // `layer` is -1 for what stands outside of the layers.
    // Set again, a matrix takes no more memory if it needs none.
    void set_matrix(int layer, const std::string& name, const Tensor& tensor, const Wanted& wanted = {});
    void set_vector(int layer, const std::string& name, const float* values);
    bool complete() const;  // whether all that the shape calls for was set

    size_t page_bytes() const;  // of all layers
    size_t weight_bytes() const { return arena_.used(); }
    void allocate(int pages);
    // See executors/base.py.
    void copy_rows(int from, int to, int rows);
    void read_page(int page, uint8_t* out) const;  // page_bytes(), layer after layer
    void write_page(int page, const uint8_t* bytes);

    // tokens [rows]; spans cover the rows in order; out [wanted, out_stride()] logits for the rows in wanted_rows, or
    // with `encode` [wanted, hidden] what the head would have read.
    void forward(const int32_t* tokens, int rows, const std::vector<SpanView>& spans, const int32_t* wanted_rows,
                 int wanted, bool encode, float* out);

    int logit_stride() const { return (shape_.vocabulary + kPanelRows - 1) / kPanelRows * kPanelRows; }
    const Shape& shape() const { return shape_; }

private:
    struct Run;
    struct Inputs;
    struct Scratch;
    struct Slot;  // where a row's keys and values go

    static Slot slot_of(const Run& run, int row);

    const float** vector_slot(Layer& layer, const std::string& name);
    std::vector<int> rotary_order(const std::string& name) const;

    void embed(const Run& run, int thread) const;
    void turn(const Run& run, int thread) const;
    void layer(const Run& run, int index, int thread) const;
    void head(const Run& run, int thread) const;
    void norm(const float* x, const NormWeights& weights, float* y) const;
    void prepare(const float* x, const NormWeights& weights, int rows, const Forms& forms, const Inputs& in) const;
    void absorb(const Run& run, const Inputs& in, const NormWeights& weights, const float* bias) const;
    void quantise(const Forms& forms, const float* x, int size, const Activations& out) const;
    void quantise_rows(const Run& run, const Matrix& reader, int size, const Activations& rows, const Inputs& in) const;
    void finish_head(const Run& run, const Layer& layer, const float* norm, int row, float* x) const;
    void project_query(const Run& run, const Layer& layer, const Activations& in, Rows rows, int head) const;
    void project_key(const Run& run, int layer, const Activations& in, Rows rows, int head, int thread) const;
    void project_value(const Run& run, int layer, const Activations& in, Rows rows, int piece, int thread) const;
    void plan_attention(Run& run) const;
    int attention_tasks(const Run& run, int layer) const;
    void attend(const Run& run, int layer, int task, int thread) const;
    void feed_forward(const Run& run, const Layer& layer, const Activations& in, Rows rows, int pair, int thread) const;
    void add_product(const Run& run, const Matrix& matrix, const Activations& in, int thread, Cursor* cursors) const;
    KeyValues key_values(int layer) const;
    // Panels of values in one piece of work: a code's scale is that of its whole head.
    int value_panels() const { return shape_.kv_format == KvFormat::int8 ? shape_.head_dim / kPanelRows : 1; }
    // Whether a branch's result is worked on before it joins the residual.
    bool branches() const;

    const Kernels& kernels_;
    Shape shape_;
    const int hidden_stride_;  // hidden rounded up to whole panels
    mutable Team team_;
    Crew crew_;
    Arena arena_;
    Source embedding_source_ = Source::f32;
    const uint8_t* embedding_ = nullptr;
    const float* positions_ = nullptr;
    NormWeights embedding_norm_, final_norm_;
    Matrix head_;
    std::vector<Layer> layers_;
    uint8_t* kv_ = nullptr;
    size_t kv_bytes_ = 0;
    int pages_ = 0;
    std::unique_ptr<Scratch> scratch_;
};

}  // namespace tokenworks
