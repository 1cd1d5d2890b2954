// The Python face of the kernels: tokenworks.inference._kernels.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <cstring>

#include "llama.h"

namespace nb = nanobind;
using namespace nb::literals;
using namespace tokenworks;

namespace {

using Bytes = nb::ndarray<const uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Floats = nb::ndarray<const float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Integers = nb::ndarray<const int32_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Logits = nb::ndarray<float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

std::vector<std::string> supported_paths() {
    std::vector<std::string> names;
    for (int i = 0; i < kNumKernels; ++i)
        if (kAllKernels[i]->supported()) names.emplace_back(kAllKernels[i]->name);
    return names;
}

const Kernels& path_named(const std::string& name) {
    for (int i = 0; i < kNumKernels; ++i)
        if (kAllKernels[i]->name == name) {
            if (!kAllKernels[i]->supported()) break;
            return *kAllKernels[i];
        }
    throw nb::value_error(("this processor does not support the path " + name).c_str());
}

Source source_named(const std::string& name) {
    static const char* const names[] = {"F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1"};
    for (int i = 0; i < 6; ++i)
        if (name == names[i]) return Source(i);
    throw nb::value_error(("no kernel for the encoding " + name).c_str());
}

void expect(bool holds, const char* what) {
    if (!holds) throw nb::value_error(what);
}

void check_bytes(const Bytes& raw, Source source, int rows, int inputs) {
    const bool blocks = source == Source::q8_0 || source == Source::q4_0 || source == Source::q4_1;
    expect(!blocks || inputs % kGroup == 0, "a block format needs rows of whole blocks");
    expect(raw.size() == row_bytes(source, inputs) * size_t(rows), "tensor has the wrong number of bytes");
}

// Checks every index before any kernel reads through it.
std::vector<SpanView> checked_spans(const Integers& starts, const Integers& lengths, const Integers& offsets,
                                    const Integers& pages, int rows, int num_pages) {
    expect(starts.size() == lengths.size() && offsets.size() == starts.size() + 1, "spans disagree in number");
    for (size_t i = 0; i < pages.size(); ++i)
        expect(pages(i) >= 0 && pages(i) < num_pages, "page out of range");
    std::vector<SpanView> spans;
    int row = 0;
    for (size_t i = 0; i < starts.size(); ++i) {
        expect(starts(i) >= 0 && lengths(i) > 0 && lengths(i) <= rows - row, "span out of range");
        expect(offsets(i) >= 0 && offsets(i) <= offsets(i + 1) && size_t(offsets(i + 1)) <= pages.size(),
               "page offsets out of range");
        const int64_t tokens = int64_t(starts(i)) + lengths(i);
        expect(int64_t(offsets(i + 1) - offsets(i)) * kPageTokens >= tokens, "too few pages for a span");
        spans.push_back({row, starts(i), lengths(i), pages.data() + offsets(i)});
        row += lengths(i);
    }
    expect(row == rows, "spans do not cover the rows");
    return spans;
}

class LlamaModule {
public:
    LlamaModule(const std::string& path, int threads, Shape shape) : llama_(path_named(path), threads, std::move(shape)) {
        expect(threads >= 1, "threads must be at least 1");
    }

    void set_embedding(const std::string& encoding, Bytes raw) {
        const Source source = source_named(encoding);
        check_bytes(raw, source, shape().vocabulary, shape().hidden);
        embedding_ = raw;  // read from in every forward
        llama_.set_embedding(source, raw.data());
    }
    void set_head(const std::string& encoding, Bytes raw) {
        const Source source = source_named(encoding);
        check_bytes(raw, source, shape().vocabulary, shape().hidden);
        nb::gil_scoped_release release;
        llama_.set_head(source, raw.data());
        head_set_ = true;
    }
    void set_final_norm(Floats weight) {
        expect(weight.size() == size_t(shape().hidden), "norm has the wrong size");
        llama_.set_final_norm(weight.data());
        final_norm_set_ = true;
    }
    void set_norms(int layer, Floats attention, Floats feed_forward) {
        check_layer(layer);
        expect(attention.size() == size_t(shape().hidden) && feed_forward.size() == attention.size(),
               "norm has the wrong size");
        llama_.set_norms(layer, attention.data(), feed_forward.data());
        ++norms_set_;
    }
    void set_matrix(int layer, char name, const std::string& encoding, Bytes raw) {
        check_layer(layer);
        const Source source = source_named(encoding);
        const Shape& s = shape();
        const int queries = s.heads * s.head_dim, keys = s.kv_heads * s.head_dim;
        const int rows = name == 'q' ? queries : name == 'k' || name == 'v' ? keys
                         : name == 'g' || name == 'u' ? s.feed_forward : s.hidden;
        const int inputs = name == 'o' ? queries : name == 'd' ? s.feed_forward : s.hidden;
        check_bytes(raw, source, rows, inputs);
        nb::gil_scoped_release release;
        llama_.set_matrix(layer, name, source, raw.data());
        ++matrices_set_;
    }
    size_t page_bytes() const { return llama_.page_bytes(); }
    size_t weight_bytes() const { return llama_.weight_bytes(); }
    int logit_stride() const { return llama_.logit_stride(); }
    void allocate(int pages) {
        expect(pages > 0, "pages must be positive");
        llama_.allocate(pages);
        pages_ = pages;
    }

    void forward(Integers tokens, Integers starts, Integers lengths, Integers offsets, Integers pages,
                 Integers logit_rows, Logits logits) {
        const int rows = int(tokens.size()), wanted = int(logit_rows.size());
        expect(embedding_.is_valid() && head_set_ && final_norm_set_ && norms_set_ >= shape().layers &&
                   matrices_set_ >= 7 * shape().layers,
               "weights are missing");
        expect(rows > 0, "an empty batch");
        for (int i = 0; i < rows; ++i)
            expect(tokens(i) >= 0 && tokens(i) < shape().vocabulary, "token out of range");
        for (int i = 0; i < wanted; ++i)  // ascending, so no more than there are rows: buffers hold as many
            expect(logit_rows(i) > (i ? logit_rows(i - 1) : -1) && logit_rows(i) < rows, "logit row out of range");
        expect(int(logits.shape(0)) >= wanted && int(logits.shape(1)) == llama_.logit_stride(), "logits' shape is wrong");
        const auto spans = checked_spans(starts, lengths, offsets, pages, rows, pages_);
        nb::gil_scoped_release release;
        llama_.forward(tokens.data(), rows, spans, logit_rows.data(), wanted, logits.data());
    }

private:
    const Shape& shape() const { return llama_.shape(); }
    void check_layer(int layer) const { expect(layer >= 0 && layer < shape().layers, "layer out of range"); }

    Llama llama_;
    Bytes embedding_;
    bool head_set_ = false, final_norm_set_ = false;
    int norms_set_ = 0, matrices_set_ = 0, pages_ = 0;
};

}  // namespace

NB_MODULE(_kernels, m) {
    m.doc() = "C++ kernels of the CPU executor.";
    m.def("supported_paths", &supported_paths, "Instruction-set paths that this processor can run, best first.");
    nb::class_<LlamaModule>(m, "Llama")
        .def("__init__",
             [](LlamaModule* self, const std::string& path, int threads, int layers, int hidden, int heads, int kv_heads,
                int head_dim, int feed_forward, int vocabulary, float rms_epsilon, std::vector<float> frequencies) {
                 new (self) LlamaModule(path, threads,
                                        Shape{layers, hidden, heads, kv_heads, head_dim, feed_forward, vocabulary,
                                              rms_epsilon, std::move(frequencies)});
             },
             "path"_a, "threads"_a, nb::kw_only(), "layers"_a, "hidden"_a, "heads"_a, "kv_heads"_a, "head_dim"_a,
             "feed_forward"_a, "vocabulary"_a, "rms_epsilon"_a, "inverse_frequencies"_a)
        .def("set_embedding", &LlamaModule::set_embedding)
        .def("set_head", &LlamaModule::set_head)
        .def("set_final_norm", &LlamaModule::set_final_norm)
        .def("set_norms", &LlamaModule::set_norms)
        .def("set_matrix", &LlamaModule::set_matrix)
        .def("allocate", &LlamaModule::allocate)
        .def("forward", &LlamaModule::forward)
        .def_prop_ro("page_bytes", &LlamaModule::page_bytes)
        .def_prop_ro("weight_bytes", &LlamaModule::weight_bytes)
        .def_prop_ro("logit_stride", &LlamaModule::logit_stride);
}
