// A Llama-family transformer over a paged KV store: one call runs all layers for a batch of rows.
#pragma once
#include <memory>
#include <vector>

#include "crew.h"
#include "kernels.h"
#include "pack.h"
#include "team.h"

namespace tokenworks {

struct Shape {
    int layers, hidden, heads, kv_heads, head_dim, feed_forward, vocabulary;
    float rms_epsilon;
    std::vector<float> inverse_frequencies;  // one per rotated pair; may be fewer than head_dim / 2
};

struct Layer {
    const float* attention_norm;
    const float* feed_forward_norm;
    Matrix query, key, value, output, gate, up, down;
};

// One sequence's rows in a batch; see executors/base.py.
struct SpanView {
    int row, start, length;
    const int32_t* pages;
};

class Llama {
public:
    Llama(const Kernels& kernels, int threads, Shape shape);
    ~Llama();

    // Weights are copied into panels, except the embedding: its rows are read from `raw` for as long as this lives.
    void set_embedding(Source source, const uint8_t* raw);
    void set_head(Source source, const uint8_t* raw);
    void set_final_norm(const float* weight);
    void set_norms(int layer, const float* attention, const float* feed_forward);
    // `name` is one of q k v o g u d.
    void set_matrix(int layer, char name, Source source, const uint8_t* raw);

    size_t page_bytes() const;  // of all layers
    size_t weight_bytes() const { return arena_.used(); }
    void allocate(int pages);

    // tokens [rows]; spans cover the rows in order; logits [wanted, logit_stride()] for the rows in logit_rows.
    void forward(const int32_t* tokens, int rows, const std::vector<SpanView>& spans, const int32_t* logit_rows,
                 int wanted, float* logits);

    int logit_stride() const { return (shape_.vocabulary + kPanelRows - 1) / kPanelRows * kPanelRows; }
    const Shape& shape() const { return shape_; }

private:
    struct Run;
    struct Inputs;
    struct Scratch;
    struct Slot;  // where a row's keys and values go

    static Slot slot_of(const Run& run, int row);

    void embed(const Run& run, int thread) const;
    void layer(const Run& run, int index, int thread) const;
    void head(const Run& run, int thread) const;
    void normalise(const float* x, const float* weight, int rows, const Inputs& in) const;
    void quantise_attention(const Run& run, const Inputs& in) const;
    void project_query(const Run& run, const Layer& layer, const Activations& in, int head) const;
    void project_key(const Run& run, int layer, const Activations& in, int head, int thread) const;
    void project_value(const Run& run, int layer, const Activations& in, int panel, int thread) const;
    void attend(const Run& run, int layer, int task, int thread) const;
    void feed_forward(const Run& run, const Layer& layer, const Activations& in, int task, int thread) const;
    void add_product(const Run& run, const Matrix& matrix, const Activations& in, Cursor& cursor) const;
    KeyValues key_values(int layer) const;
    const float* copy_floats(const float* values, int count);

    const Kernels& kernels_;
    const Shape shape_;
    const int hidden_stride_;  // hidden rounded up to whole panels
    mutable Team team_;
    Crew crew_;
    Arena arena_;
    Source embedding_source_ = Source::f32;
    const uint8_t* embedding_ = nullptr;
    const float* final_norm_ = nullptr;
    Matrix head_;
    std::vector<Layer> layers_;
    uint16_t* kv_ = nullptr;
    size_t kv_bytes_ = 0;
    int pages_ = 0;
    std::unique_ptr<Scratch> scratch_;
};

}  // namespace tokenworks
