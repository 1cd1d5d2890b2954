// The Python face of the kernels: tokenworks.inference._kernels.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/function.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <cstring>
#include <optional>

#include "decode.h"
#include "sampling.h"
#include "suffixes.h"
#include "timing.h"
#include "transformer.h"

namespace nb = nanobind;
using namespace nb::literals;
using namespace tokenworks;

namespace {

using Bytes = nb::ndarray<const uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Floats = nb::ndarray<const float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Integers = nb::ndarray<const int32_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Release = std::function<void(size_t, size_t)>;
using Out = nb::ndarray<float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

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
    for (int i = 0; i < kSources; ++i)
        if (name == kBlocks[i].name) return Source(i);
    throw nb::value_error(("no kernel for the encoding " + name).c_str());
}

// The format by its name; none for an empty one.
std::optional<Format> format_named(const std::string& name) {
    if (name.empty()) return {};
    if (name == "q4_centred") return Format::q4_centred;
    if (name == "q4") return Format::q4;
    if (name == "q6") return Format::q6;
    if (name == "q8") return Format::q8;
    throw nb::value_error(("no format " + name).c_str());
}

void expect(bool holds, const char* what) {
    if (!holds) throw nb::value_error(what);
}

void check_bytes(const Bytes& raw, Source source, int rows, int inputs) {
    expect(rows > 0 && inputs > 0, "a matrix without rows or inputs");
    expect(inputs % block_of(source).weights == 0, "a block format needs rows of whole blocks");
    expect(raw.size() == row_bytes(source, inputs) * size_t(rows), "tensor has the wrong number of bytes");
}

Wanted wanted_of(const std::string& format, const std::optional<Floats>& importance, int inputs) {
    expect(!importance || importance->size() == size_t(inputs), "importance is not one number an input");
    expect(format_named(format) != Format::q4_centred, "nothing is rounded to q4_centred");
    return {format_named(format), importance ? importance->data() : nullptr};
}

// The bytes of a matrix's panels as this path packs them.
nb::bytes panels(const std::string& path, const std::string& encoding, Bytes raw, int rows, int inputs,
                 const std::string& format, const std::optional<Floats>& importance) {
    const Source source = source_named(encoding);
    check_bytes(raw, source, rows, inputs);
    Arena arena;
    Team alone(1);
    const Matrix matrix = pack(path_named(path), arena, alone, {source, raw.data()}, rows, inputs, nullptr,
                               wanted_of(format, importance, inputs));
    return nb::bytes(matrix.data, matrix.panel_bytes * size_t(matrix.panels()));
}

// The rows of an embedding as float32.
nb::bytes decoded(const std::string& encoding, Bytes raw, int rows, int inputs) {
    const Source source = source_named(encoding);
    check_bytes(raw, source, rows, inputs);
    std::vector<float> values(size_t(rows) * size_t(inputs));
    for (int row = 0; row < rows; ++row)
        decode_row(source, raw.data() + row_bytes(source, inputs) * size_t(row), inputs, &values[size_t(row) * inputs]);
    return nb::bytes(values.data(), values.size() * sizeof(float));
}

std::vector<double> seconds(const std::string& path, int threads, int inputs, const std::vector<std::string>& formats, int rows,
                            size_t memory_bytes, size_t pass_bytes, int runs) {
    expect(threads >= 1 && rows >= 1 && runs >= 1, "threads, rows and runs must be at least 1");
    expect(inputs >= kGroup && inputs % kGroup == 0, "inputs are no whole groups");
    std::vector<Format> chosen;
    for (const std::string& name : formats) {
        const auto format = format_named(name);
        expect(format.has_value(), "a format without a name");
        chosen.push_back(*format);
    }
    nb::gil_scoped_release others_run;
    return panel_seconds(path_named(path), threads, inputs, chosen, rows, memory_bytes, pass_bytes, runs);
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

class Module {
public:
    Module(const std::string& path, int threads, Shape shape) : transformer_(path_named(path), threads, std::move(shape)) {}

    void set_embedding(const std::string& encoding, Bytes raw) {
        const Source source = source_named(encoding);
        check_bytes(raw, source, shape().vocabulary, shape().hidden);
        embedding_ = raw;  // read from in every forward
        transformer_.set_embedding(source, raw.data());
    }
    void set_matrix(int layer, const std::string& name, const std::string& encoding, Bytes raw, const Release& release,
                    const std::string& format, const std::optional<Floats>& importance) {
        check_layer(layer);
        const Source source = source_named(encoding);
        const auto [rows, inputs] = transformer_.matrix_size(name);
        check_bytes(raw, source, rows, inputs);
        const Wanted wanted = wanted_of(format, importance, inputs);
        nb::gil_scoped_release others_run;
        transformer_.set_matrix(layer, name, {source, raw.data(), release}, wanted);
    }
    void set_vector(int layer, const std::string& name, Floats values) {
        check_layer(layer);
        expect(values.size() == size_t(transformer_.vector_size(name)), "vector has the wrong size");
        transformer_.set_vector(layer, name, values.data());
    }
    size_t page_bytes() const { return transformer_.page_bytes(); }
    size_t weight_bytes() const { return transformer_.weight_bytes(); }
    int logit_stride() const { return transformer_.logit_stride(); }
    void allocate(int pages) {
        expect(pages > 0, "pages must be positive");
        transformer_.allocate(pages);
        pages_ = pages;
    }

    void copy_rows(int from, int to, int rows) {
        check_page(from);
        check_page(to);
        expect(from != to, "a page is copied onto itself");
        expect(rows >= 0 && rows <= kPageTokens, "rows out of range");
        transformer_.copy_rows(from, to, rows);
    }
    nb::bytes read_page(int page) const {
        check_page(page);
        nb::bytes content = nb::steal<nb::bytes>(PyBytes_FromStringAndSize(nullptr, Py_ssize_t(page_bytes())));
        if (!content.is_valid()) nb::raise_python_error();
        transformer_.read_page(page, reinterpret_cast<uint8_t*>(PyBytes_AsString(content.ptr())));
        return content;
    }
    void write_page(int page, Bytes bytes) {
        check_page(page);
        expect(bytes.size() == page_bytes(), "a page has another number of bytes");
        transformer_.write_page(page, bytes.data());
    }

    // The head's logits, or with `encode` what it would read.
    void forward(Integers tokens, Integers starts, Integers lengths, Integers offsets, Integers pages, Integers wanted_rows,
                 bool encode, Out out) {
        const int rows = int(tokens.size()), wanted = int(wanted_rows.size());
        complete_ = complete_ || transformer_.complete();
        expect(complete_, "weights are missing");
        expect(encode || shape().causal, "an encoder has no logits");
        expect(rows > 0, "an empty batch");
        for (int i = 0; i < rows; ++i)
            expect(tokens(i) >= 0 && tokens(i) < shape().vocabulary, "token out of range");
        for (int i = 0; i < wanted; ++i)  // ascending, so no more than there are rows: buffers hold as many
            expect(wanted_rows(i) > (i ? wanted_rows(i - 1) : -1) && wanted_rows(i) < rows, "wanted row out of range");
        const int width = encode ? shape().hidden : transformer_.logit_stride();
        expect(int(out.shape(0)) >= wanted && int(out.shape(1)) == width, "the result's shape is wrong");
        const auto spans = checked_spans(starts, lengths, offsets, pages, rows, pages_);
        for (const SpanView& span : spans) {
            expect(shape().positions == 0 || span.start + span.length <= shape().positions, "more tokens than positions");
            expect(shape().causal || span.start == 0, "an encoder computes whole sequences");
        }
        nb::gil_scoped_release release;
        transformer_.forward(tokens.data(), rows, spans, wanted_rows.data(), wanted, encode, out.data());
    }

private:
    const Shape& shape() const { return transformer_.shape(); }
    void check_page(int page) const { expect(page >= 0 && page < pages_, "page out of range"); }
    void check_layer(int layer) const { expect(layer >= -1 && layer < shape().layers, "layer out of range"); }

    Transformer transformer_;
    Bytes embedding_;
    bool complete_ = false;
    int pages_ = 0;
};

template <typename Value>
Value named(const std::string& name, std::initializer_list<std::pair<const char*, Value>> known) {
    for (const auto& [text, value] : known)
        if (name == text) return value;
    throw nb::value_error(("unknown: " + name).c_str());
}

void check_shape(int threads, const Shape& s) {
    expect(threads >= 1, "threads must be at least 1");
    for (int size : {s.layers, s.hidden, s.heads, s.kv_heads, s.head_dim, s.feed_forward, s.vocabulary})
        expect(size >= 1, "sizes must be at least 1");
    expect(s.windows.empty() || int(s.windows.size()) == s.layers, "windows are not one a layer");
    expect(s.window_frequencies.empty() || s.window_frequencies.size() == s.inverse_frequencies.size(),
           "frequencies disagree in number");
}

std::tuple<int, int, float> chosen(const std::string& path, Floats logits, float temperature, int top_k, float top_p, float min_p, double position) {
    expect(logits.size() > 0, "no logits");
    const Choice choice = choose(path_named(path), {logits.data(), logits.size()}, {temperature, top_k, top_p, min_p}, position);
    return {choice.token, choice.likeliest, choice.peak};
}

std::pair<int, int> pair_of(Suffixes::Place place) { return {place.state, place.length}; }

int checked_state(const Suffixes& suffixes, int state) {
    expect(state >= 0 && state < suffixes.states(), "no such state");
    return state;
}

}  // namespace

NB_MODULE(_kernels, m) {
    m.doc() = "C++ kernels of the CPU executor.";
    m.def("supported_paths", &supported_paths, "Instruction-set paths that this processor can run, best first.");
    m.def("panels", &panels, "path"_a, "encoding"_a, "raw"_a, "rows"_a, "inputs"_a, "format"_a = "",
          "importance"_a = nb::none(), "A matrix as it is packed.");
    m.def("panel_seconds", &seconds, "path"_a, "threads"_a, "inputs"_a, "formats"_a, "rows"_a, nb::kw_only(),
          "memory_bytes"_a, "pass_bytes"_a, "runs"_a, "What each format takes for a panel.");
    m.def("decoded", &decoded, "encoding"_a, "raw"_a, "rows"_a, "inputs"_a, "An embedding's rows as they are read.");
    m.def("choose", &chosen, "path"_a, "logits"_a, "temperature"_a, "top_k"_a, "top_p"_a, "min_p"_a, "position"_a,
          "The next token, the likeliest one and its logit.");
    nb::class_<Suffixes>(m, "Suffixes")
        .def(nb::init<>())
        .def("add", [](Suffixes& self, const std::vector<int>& tokens) { for (int token : tokens) self.add(token); }, "tokens"_a)
        .def("end", &Suffixes::end)
        .def_prop_ro("size", &Suffixes::size)
        .def("tail", [](const Suffixes& self) { return pair_of(self.tail()); })
        .def("follow", [](const Suffixes& self, int state, int length, int token) {
            return pair_of(self.follow({checked_state(self, state), length}, token)); },
             "state"_a, "length"_a, "token"_a)
        .def("guess", [](const Suffixes& self, int state, int length) -> std::optional<std::pair<int, float>> {
            const auto guess = self.guess({checked_state(self, state), length});
            if (!guess) return {};
            return std::pair(guess->token, guess->share); },
             "state"_a, "length"_a);
    nb::class_<Module>(m, "Transformer")
        .def("__init__",
             [](Module* self, const std::string& path, int threads, int layers, int hidden, int heads, int kv_heads,
                int head_dim, int feed_forward, int vocabulary, float norm_epsilon, const std::string& norm,
                const std::string& norms, const std::string& activation, bool gated, bool causal, bool interleaved,
                float query_scale, float embedding_scale, int positions, std::vector<float> frequencies,
                std::vector<float> window_frequencies, std::vector<int> windows, const std::string& kv_format) {
                 Shape s;
                 s.layers = layers, s.hidden = hidden, s.heads = heads, s.kv_heads = kv_heads, s.head_dim = head_dim;
                 s.feed_forward = feed_forward, s.vocabulary = vocabulary, s.norm_epsilon = norm_epsilon;
                 s.layer_norms = named<bool>(norm, {{"rms", false}, {"layer", true}});
                 s.norms = named<NormPlace>(
                     norms, {{"before", NormPlace::before}, {"around", NormPlace::around}, {"after", NormPlace::after}});
                 s.activation = named<Activation>(activation, {{"silu", Activation::silu},
                                                               {"gelu_tanh", Activation::gelu_tanh},
                                                               {"gelu", Activation::gelu}});
                 s.gated = gated, s.causal = causal, s.interleaved = interleaved;
                 s.query_scale = query_scale, s.embedding_scale = embedding_scale, s.positions = positions;
                 s.inverse_frequencies = std::move(frequencies);
                 s.window_frequencies = std::move(window_frequencies);
                 s.windows = std::move(windows);
                 s.kv_format = named<KvFormat>(kv_format, {{"bf16", KvFormat::bf16}, {"int8", KvFormat::int8}});
                 check_shape(threads, s);
                 new (self) Module(path, threads, std::move(s));
             },
             "path"_a, "threads"_a, nb::kw_only(), "layers"_a, "hidden"_a, "heads"_a, "kv_heads"_a, "head_dim"_a,
             "feed_forward"_a, "vocabulary"_a, "norm_epsilon"_a, "norm"_a, "norms"_a, "activation"_a, "gated"_a,
             "causal"_a, "interleaved"_a, "query_scale"_a, "embedding_scale"_a, "positions"_a, "inverse_frequencies"_a,
             "window_frequencies"_a, "windows"_a, "kv_format"_a)
        .def("set_embedding", &Module::set_embedding)
        .def("set_matrix", &Module::set_matrix, "layer"_a, "name"_a, "encoding"_a, "raw"_a, "release"_a, "format"_a = "",
             "importance"_a = nb::none())
        .def("set_vector", &Module::set_vector)
        .def("allocate", &Module::allocate)
        .def("copy_rows", &Module::copy_rows, "source"_a, "target"_a, "rows"_a)
        .def("read_page", &Module::read_page, "page"_a)
        .def("write_page", &Module::write_page, "page"_a, "content"_a)
        // A result that were converted on the way in would be written into a copy.
        .def("forward", &Module::forward, "tokens"_a, "starts"_a, "lengths"_a, "offsets"_a, "pages"_a, "wanted_rows"_a,
             "encode"_a, "out"_a.noconvert())
        .def_prop_ro("page_bytes", &Module::page_bytes)
        .def_prop_ro("weight_bytes", &Module::weight_bytes)
        .def_prop_ro("logit_stride", &Module::logit_stride);
}
