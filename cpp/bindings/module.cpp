// The door from Python: check, release the interpreter lock, call. A shape that does not fit is a bug of the caller in
// ops/backends/cpu.py and raises ValueError naming operation, argument, expected and actual shape.
#include "bindings/bindings.h"

#include <algorithm>
#include <cstring>

#include "base/measure.h"
#include "ops/rope.h"
#include "ops/top_k.h"
#include "ops/vision.h"
#include "targets/dispatch.h"

namespace loqal::python {
namespace {

Layout find_layout(const std::string& name) {
  for (int i = 0; i < static_cast<int>(Layout::Count); ++i)
    if (name == layout_info(static_cast<Layout>(i)).name) return static_cast<Layout>(i);
  throw nb::value_error(("no packed layout is called " + name).c_str());
}

std::unique_ptr<Weight> pack(Cpu& cpu, const std::string& layout_name, In<uint8_t, 1> source, int64_t experts,
                             int64_t rows, int64_t inputs) {
  const Layout layout = find_layout(layout_name);
  require(inputs % layout_info(layout).inputs == 0, "pack: inputs do not fill whole blocks");
  check("pack", "source", source, {{"bytes", experts * rows * file_row_bytes(layout, inputs)}});
  nb::gil_scoped_release release;
  auto weight = std::make_unique<Weight>(allocate(cpu, layout, experts, rows, inputs));
  pack_weight(cpu, *weight, source.data());
  return weight;
}

std::unique_ptr<Weight> pack_codebook(Cpu& cpu, const std::string& name, In<uint8_t, 1> source, In<int8_t, 2> vectors,
                                      In<int8_t, 2> signs, int64_t experts, int64_t rows, int64_t inputs) {
  const CodebookFormat* format = find_codebook_format(name);
  require(format != nullptr, "no format with a codebook is called " + name);
  require(inputs % kCodebookBlock == 0, "pack_codebook: inputs do not fill whole blocks");
  check("pack_codebook", "vectors", vectors, {{"vectors", format->num_vectors}, {"values", format->vector_len}});
  check("pack_codebook", "signs", signs, {{"patterns", format->num_signs}, {"values", 8}});
  check("pack_codebook", "source", source,
        {{"bytes", experts * rows * (inputs / kCodebookBlock) * format->block_bytes}});
  nb::gil_scoped_release release;
  auto weight = std::make_unique<Weight>(allocate(cpu, Layout::I8, experts, rows, inputs));
  pack_codebook_weight(cpu, *weight, *format, {vectors.data(), signs.data()}, source.data());
  return weight;
}

// A weight over panels that were packed before; the array stays alive with it.
std::unique_ptr<Weight> adopt(const std::string& layout_name, In<uint8_t, 1> packed, int64_t experts, int64_t rows,
                              int64_t inputs) {
  const Layout layout = find_layout(layout_name);
  require(experts > 0 && rows > 0 && inputs > 0 && inputs % layout_info(layout).inputs == 0, "adopt: impossible shape");
  auto weight =
      std::make_unique<Weight>(layout, experts, rows, inputs, packed.data(), std::make_shared<In<uint8_t, 1>>(packed));
  check("adopt", "packed", packed, {{"bytes", static_cast<int64_t>(weight->num_bytes())}});
  return weight;
}

Out<float> embed(Cpu& cpu, const Weight& table, In<int32_t, 1> ids) {
  const auto tokens = static_cast<int64_t>(ids.shape(0));
  for (int64_t t = 0; t < tokens; ++t)
    require(ids.data()[t] >= 0 && ids.data()[t] < table.rows, "embed: a token id lies outside the vocabulary");
  auto out = make<float>({static_cast<size_t>(tokens), static_cast<size_t>(table.inputs)});
  nb::gil_scoped_release release;
  loqal::embed(cpu, table, ids.data(), tokens, out.data());
  return out;
}

Out<float> rms_norm(Cpu& cpu, In<float, 2> x, In<float, 1> weight, float eps) {
  const auto rows = static_cast<int64_t>(x.shape(0)), width = static_cast<int64_t>(x.shape(1));
  check("rms_norm", "weight", weight, {{"D", width}});
  auto out = make<float>({x.shape(0), x.shape(1)});
  nb::gil_scoped_release release;
  loqal::rms_norm(cpu, x.data(), weight.data(), out.data(), rows, width, eps);
  return out;
}

nb::typed<nb::tuple, Out<float>, nb::ellipsis> linear(Cpu& cpu, In<float, 2> x,
                                                      const std::vector<const Weight*>& weights, const NormWeight& norm,
                                                      float eps) {
  const auto rows = static_cast<int64_t>(x.shape(0));
  std::vector<Product> products;
  nb::list outs;
  for (const Weight* w : weights) {
    check("linear", "x", x, {{"T", rows}, {"K", w->inputs}});
    auto out = make<float>({x.shape(0), static_cast<size_t>(w->rows)});
    products.push_back({w, 0, out.data(), false});
    outs.append(out);
  }
  const auto inputs = static_cast<int64_t>(x.shape(1));
  const Norm before = norm_of("linear", norm, eps, inputs);
  {
    nb::gil_scoped_release release;
    loqal::linear(cpu, x.data(), rows, inputs, products, before);
  }
  return nb::borrow<nb::typed<nb::tuple, Out<float>, nb::ellipsis>>(nb::tuple(outs));
}

void linear_add(Cpu& cpu, InOut<float, 2> h, In<float, 2> x, const Weight& weight) {
  const auto rows = static_cast<int64_t>(x.shape(0));
  check("linear_add", "x", x, {{"T", rows}, {"K", weight.inputs}});
  check("linear_add", "h", h, {{"T", rows}, {"O", weight.rows}});
  nb::gil_scoped_release release;
  loqal::linear(cpu, x.data(), rows, weight.inputs, {{&weight, 0, h.data(), true}});
}

std::tuple<Out<float>, Out<float>> rotary(Cpu&, In<int32_t, 2> positions, In<double, 1> frequencies,
                                          In<int32_t, 1> axes, double magnitude) {
  const auto tokens = static_cast<int64_t>(positions.shape(0)), pairs = static_cast<int64_t>(frequencies.shape(0));
  check("rotary", "positions", positions, {{"T", tokens}, {"axes", 3}});
  check("rotary", "axes", axes, {{"pairs", pairs}});
  auto cos = make<float>({positions.shape(0), frequencies.shape(0)});
  auto sin = make<float>({positions.shape(0), frequencies.shape(0)});
  loqal::rotary(positions.data(), tokens, frequencies.data(), axes.data(), pairs, magnitude, cos.data(), sin.data());
  return {cos, sin};
}

// The k largest of a row, largest first, ties by lower id; with the log-sum-exp of the whole row.
std::tuple<Out<int32_t>, Out<float>, float> candidates(Cpu& cpu, In<float, 1> logits, int64_t k) {
  const auto n = static_cast<int64_t>(logits.shape(0));
  k = std::clamp<int64_t>(k, 0, n);
  auto ids = make<int32_t>({static_cast<size_t>(k)});
  auto values = make<float>({static_cast<size_t>(k)});
  float log_sum = 0;
  {
    nb::gil_scoped_release release;
    log_sum = loqal::candidates(cpu, logits.data(), n, k, ids.data(), values.data());
  }
  return {ids, values, log_sum};
}

// The k largest logits of every row, without the excluded ids: ids [R n], logits [R n].
std::tuple<Out<int32_t>, Out<float>> largest(Cpu& cpu, In<float, 2> x, const Weight& head, int64_t k,
                                             In<int32_t, 1> excluded) {
  const auto rows = static_cast<int64_t>(x.shape(0)), num_excluded = static_cast<int64_t>(excluded.shape(0));
  check("largest", "x", x, {{"R", rows}, {"D", head.inputs}});
  require(std::is_sorted(excluded.data(), excluded.data() + num_excluded), "largest: excluded ids must ascend");
  k = std::clamp<int64_t>(k, 0, head.rows - num_excluded);
  auto ids = make<int32_t>({x.shape(0), static_cast<size_t>(k)});
  auto values = make<float>({x.shape(0), static_cast<size_t>(k)});
  {
    nb::gil_scoped_release release;
    top_k(cpu, x.data(), rows, head, k, excluded.data(), num_excluded, ids.data(), values.data());
  }
  return {ids, values};
}

void softmax(Cpu& cpu, InOut<float, 2> x) {
  for (size_t r = 0; r < x.shape(0); ++r)
    cpu.table().softmax(x.data() + r * x.shape(1), static_cast<int64_t>(x.shape(1)));
}

Out<float> layer_norm(Cpu& cpu, In<float, 2> x, In<float, 1> weight, In<float, 1> bias, float eps) {
  const auto rows = static_cast<int64_t>(x.shape(0)), width = static_cast<int64_t>(x.shape(1));
  check("layer_norm", "weight", weight, {{"D", width}});
  check("layer_norm", "bias", bias, {{"D", width}});
  auto out = make<float>({x.shape(0), x.shape(1)});
  nb::gil_scoped_release release;
  loqal::layer_norm(cpu, x.data(), weight.data(), bias.data(), out.data(), rows, width, eps);
  return out;
}

void add_bias(Cpu& cpu, InOut<float, 2> x, In<float, 1> bias) {
  const auto rows = static_cast<int64_t>(x.shape(0)), width = static_cast<int64_t>(x.shape(1));
  check("add_bias", "bias", bias, {{"D", width}});
  nb::gil_scoped_release release;
  loqal::add_bias(cpu, x.data(), bias.data(), rows, width);
}

void gelu(Cpu& cpu, InOut<float, 2> x, bool exact) {
  const auto count = static_cast<int64_t>(x.shape(0) * x.shape(1));
  nb::gil_scoped_release release;
  loqal::gelu(cpu, x.data(), count, exact);
}

std::unique_ptr<VisionPack> pack_heads(Cpu& cpu, In<float, 2> qkv, In<float, 2> cos, In<float, 2> sin, int heads) {
  const auto rows = static_cast<int64_t>(qkv.shape(0)), half = static_cast<int64_t>(cos.shape(1));
  require(heads > 0 && rows > 0 && half > 0 && 2 * half <= kMaxVisionDim, "vision_heads: unusual shape");
  check("vision_heads", "qkv", qkv, {{"N", rows}, {"3*H*head_dim", 6 * heads * half}});
  check("vision_heads", "cos", cos, {{"N", rows}, {"head_dim/2", half}});
  check("vision_heads", "sin", sin, {{"N", rows}, {"head_dim/2", half}});
  nb::gil_scoped_release release;
  auto pack = std::make_unique<VisionPack>(rows, heads, static_cast<int>(2 * half), cpu.table().float_columns);
  loqal::pack_heads(cpu, qkv.data(), cos.data(), sin.data(), *pack);
  return pack;
}

Out<float> vision_attention(Cpu& cpu, const VisionPack& pack, int64_t start, int64_t end) {
  require(0 <= start && start < end && end <= pack.heads.rows, "vision_attention: no such rows");
  auto out = make<float>({static_cast<size_t>(end - start), static_cast<size_t>(pack.num_heads * pack.heads.head_dim)});
  nb::gil_scoped_release release;
  loqal::vision_attention(cpu, pack, start, end, out.data());
  return out;
}

double measured_read(Cpu& cpu, int64_t bytes) {
  nb::gil_scoped_release release;
  return read_gb_per_s(cpu.table(), cpu.pool(), static_cast<size_t>(std::max<int64_t>(0, bytes)));
}
double measured_int8(Cpu& cpu) {
  nb::gil_scoped_release release;
  return int8_gops(cpu.table(), cpu.pool());
}
double measured_float(Cpu& cpu) {
  nb::gil_scoped_release release;
  return float_gflops(cpu.table(), cpu.pool());
}

// Bytes of a weight once it is packed.
int64_t packed_bytes(const std::string& layout_name, int64_t experts, int64_t rows, int64_t inputs) {
  return static_cast<int64_t>(Weight(find_layout(layout_name), experts, rows, inputs, nullptr, nullptr).num_bytes());
}

std::unique_ptr<Cpu> make_cpu(const std::string& isa, int threads) {
  for (const KernelTable* table : usable_tables())
    if (isa == table->name) return std::make_unique<Cpu>(table, threads);
  throw nb::value_error(("this machine cannot run the kernels for " + isa).c_str());
}

// Formats with a packed layout of their own; those with codebooks are decoded to int8 panels.
std::vector<std::string> packed_formats() {
  std::vector<std::string> names;
  for (int i = 0; i < static_cast<int>(Layout::Count); ++i)
    if (const LayoutInfo& info = layout_info(static_cast<Layout>(i)); info.file_bytes > 0)
      names.emplace_back(info.name);
  return names;
}

std::vector<std::string> isa_names() {
  std::vector<std::string> names;
  for (const KernelTable* table : usable_tables()) names.emplace_back(table->name);
  return names;
}

// Sizes that Python shares, see kernels/constants.h and base/memory.h.
void bind_constants(nb::module_& m) {
  m.attr("LAYOUT_VERSION") = kLayoutVersion;
  m.attr("PANEL_ROWS") = kRows;
  m.attr("RUN_INPUTS") = kRun;
  m.attr("PAGE_TOKENS") = kPage;
  m.attr("SPAN_TOKENS") = kSpan;
  m.attr("KV_BLOCK") = kKvBlock;
  m.attr("VISION_SPAN") = kVisionSpan;
  m.attr("JOURNAL_ROWS") = kJournalRows;
  m.attr("DELTA_HEAD_DIM") = kDeltaHeadDim;
  m.attr("CONV_WIDTH") = kConvWidth;
  m.attr("STATE_TILE") = kStateTile;
  m.attr("HUGE_PAGE_BYTES") = kHugePageBytes;
  m.attr("ARENA_CHUNK_BYTES") = kChunkBytes;
  m.attr("ALIGNMENT_BYTES") = kAlignment;
  m.attr("BLOCK_UNIT_BYTES") = kBlockUnit;
}

void bind_weight(nb::module_& m) {
  nb::class_<Weight>(m, "Weight", "A linear weight [rows inputs], or one for each expert, in panels of 16 rows.")
      .def_ro("experts", &Weight::experts)
      .def_ro("rows", &Weight::rows)
      .def_ro("inputs", &Weight::inputs)
      .def_prop_ro("layout", [](const Weight& w) { return layout_info(w.layout).name; })
      .def_prop_ro("num_bytes", &Weight::num_bytes)
      .def(
          "packed",
          [](nb::handle self) {
            const auto& w = nb::cast<const Weight&>(self);
            return nb::ndarray<nb::numpy, const uint8_t, nb::ndim<1>>(w.packed, {w.num_bytes()}, self);
          },
          "All panels, without a copy.");
  m.def("packed_formats", &packed_formats, "Formats with a packed layout of their own.");
  m.def("packed_bytes", &packed_bytes, "layout"_a, "experts"_a, "rows"_a, "inputs"_a,
        "Bytes of a weight once it is packed.");
  m.def("adopt", &adopt, "layout"_a, "packed"_a, "experts"_a, "rows"_a, "inputs"_a,
        "A weight over panels that were packed before; the array lives as long as the weight.");
}

void bind_operations(nb::class_<Cpu>& cpu) {
  cpu.def("pack", &pack, "layout"_a, "source"_a, "experts"_a, "rows"_a, "inputs"_a,
          "Packs blocks as a file has them, [experts rows inputs].")
      .def("pack_codebook", &pack_codebook, "format"_a, "source"_a, "vectors"_a, "signs"_a, "experts"_a, "rows"_a,
           "inputs"_a, "The same for a format whose codes name vectors of a codebook.")
      .def("embed", &Timed<&embed>::call, "table"_a, "ids"_a, "Rows of a weight: ids [T] -> [T inputs].")
      .def("rms_norm", &Timed<&rms_norm>::call, "x"_a, "weight"_a, "eps"_a, "x [T D], weight [D] -> [T D].")
      .def("linear", &Timed<&linear>::call, "x"_a, "weights"_a, "norm"_a = nb::none(), "eps"_a = 0.0f,
           "x [T K], behind a norm [K] if there is one, times each weight [O K] -> [T O] each.")
      .def("linear_add", &Timed<&linear_add>::call, "h"_a, "x"_a, "weight"_a, "h [T O] += x [T K] times weight [O K].")
      .def("rotary", &Timed<&rotary>::call, "positions"_a, "frequencies"_a, "axes"_a, "magnitude"_a,
           "positions [T 3], frequencies and axes [pairs] -> cosines and sines [T pairs].")
      .def("layer_norm", &Timed<&layer_norm>::call, "x"_a, "weight"_a, "bias"_a, "eps"_a,
           "x [N D], weight and bias [D] -> [N D].")
      .def("add_bias", &Timed<&add_bias>::call, "x"_a, "bias"_a, "x [N D] += bias [D].")
      .def("gelu", &Timed<&gelu>::call, "x"_a, "exact"_a, "x [N D], in place.")
      .def("vision_heads", &Timed<&pack_heads>::call, "qkv"_a, "cos"_a, "sin"_a, "heads"_a,
           "qkv [N 3 heads head_dim], cos and sin [N head_dim/2], for vision_attention.")
      .def("vision_attention", &Timed<&vision_attention>::call, "heads"_a, "start"_a, "end"_a,
           "Attention of rows start to end to all rows -> [end-start heads*head_dim].")
      .def("candidates", &Timed<&candidates>::call, "logits"_a, "k"_a,
           "logits [V] -> ids [k] and logits [k], largest first and ties by lower id, and the log-sum-exp of all.")
      .def(
          "largest", &Timed<&largest>::call, "x"_a, "head"_a, "k"_a, "excluded"_a,
          "The k largest of every row of x [R D] times head [V D] without the excluded ids, which ascend -> ids [R k], "
          "logits [R k].")
      .def("softmax", &Timed<&softmax>::call, "x"_a, "x [N D], in place by row.");
}

}  // namespace

void bind_all(nb::module_& m) {
  m.doc() = "Native kernels of loqal, made by nanobind from cpp/bindings. Arrays are C-contiguous.";
  bind_constants(m);
  m.def("isas", &isa_names, "Instruction sets this machine can run, best first.");
  m.def("usable_cpus", &usable_cpus, "CPUs of the affinity mask within the cgroup's quota.");
  m.def("make_cpu", &make_cpu, "isa"_a, "threads"_a, "Kernels of one instruction set and a pool of threads.");
  bind_weight(m);
  nb::class_<VisionPack>(m, "VisionPack", "Queries, keys and values of one picture.");
  nb::class_<Cpu> cpu(m, "Cpu", "The operations; the errors of wrong shapes are ValueError.");
  bind_decoder_types(m);
  cpu.def_prop_ro("isa", [](const Cpu& c) { return c.table().name; })
      .def_prop_ro("threads", &Cpu::threads)
      .def_prop_ro(
          "busy_s", [](Cpu& c) { return static_cast<double>(c.meter().busy_ns) * 1e-9; }, "Inside operations, so far.")
      .def_prop_ro(
          "weight_bytes", [](Cpu& c) { return c.meter().weight_bytes.load(); },
          "Of the weights that operations multiplied with, so far.")
      .def("read_gb_per_s", &measured_read, "bytes"_a, "Speed of reading that much memory in order.")
      .def("int8_gops", &measured_int8, "Integer operations in 10^9/s.")
      .def("float_gflops", &measured_float, "Float operations in 10^9/s.");
  bind_operations(cpu);
  bind_decoder(cpu);
  bind_encode(m);
}

}  // namespace loqal::python

NB_MODULE(_kernels, m) { loqal::python::bind_all(m); }
