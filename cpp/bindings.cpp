// The door from Python: check, release the interpreter lock, call. A shape that does not fit is a bug of the caller in
// ops/cpu.py and raises ValueError naming operation, argument, expected and actual shape.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/unique_ptr.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <optional>
#include <sstream>

#include "bindings_encode.h"
#include "common/measure.h"
#include "dispatch.h"
#include "ops.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace loqal {
namespace {

template <class T, int N>
using In = nb::ndarray<const T, nb::ndim<N>, nb::c_contig, nb::device::cpu>;
template <class T, int N>
using InOut = nb::ndarray<T, nb::ndim<N>, nb::c_contig, nb::device::cpu>;
template <class T>
using Out = nb::ndarray<nb::numpy, T>;

struct Dim {
  const char* name;
  int64_t size;
};

template <class Array>
void check(const char* op, const char* argument, const Array& array, std::initializer_list<Dim> expected) {
  bool fits = array.ndim() == expected.size();
  size_t axis = 0;
  for (const Dim& d : expected) {
    fits = fits && static_cast<int64_t>(array.shape(axis)) == d.size;
    ++axis;
  }
  if (fits) return;
  std::ostringstream text;
  text << op << ": " << argument << " should be [";
  for (const Dim& d : expected) text << ' ' << d.name << '=' << d.size;
  text << " ] but is [";
  for (size_t i = 0; i < array.ndim(); ++i) text << ' ' << array.shape(i);
  text << " ]";
  throw nb::value_error(text.str().c_str());
}
void require(bool condition, const std::string& text) {
  if (!condition) throw nb::value_error(text.c_str());
}

template <class T>
Out<T> make(std::initializer_list<size_t> shape) {
  size_t count = 1;
  for (size_t n : shape) count *= n;
  void* data = BlockPool::instance().take(count * sizeof(T));
  nb::capsule owner(data, [](void* p) noexcept { BlockPool::give(p); });
  return Out<T>(static_cast<T*>(data), shape, owner);
}

// An operation that counts its time in the meter.
template <auto kOperation>
struct Timed;
template <class Result, class... Args, Result (*kOperation)(Cpu&, Args...)>
struct Timed<kOperation> {
  static Result call(Cpu& cpu, Args... args) {
    struct Clock {
      ~Clock() { total += (std::chrono::steady_clock::now() - start) / std::chrono::nanoseconds(1); }
      std::atomic<int64_t>& total;
      std::chrono::steady_clock::time_point start = std::chrono::steady_clock::now();
    } clock{cpu.meter().busy_ns};
    return kOperation(cpu, std::forward<Args>(args)...);
  }
};

void count_weight(Cpu& cpu, const Weight& weight) { cpu.meter().weight_bytes += weight.panels * weight.panel_bytes; }

Layout find_layout(const std::string& name) {
  for (int i = 0; i < static_cast<int>(Layout::Count); ++i)
    if (name == layout_info(static_cast<Layout>(i)).name) return static_cast<Layout>(i);
  throw nb::value_error(("no packed layout is called " + name).c_str());
}

// The arrays of ops.interface.StepBatch that kernels read.
struct Step {
  In<int32_t, 1> starts, past_len, slots;
  In<int32_t, 2> page_table;
  In<int32_t, 1> capture_rows, capture_slots;
  In<int32_t, 1> journals, pending, defers;  // empty when no sequence has a journal

  int64_t rows() const { return starts.data()[starts.shape(0) - 1]; }
  StepArrays arrays() const {
    return {starts.data(),
            past_len.data(),
            slots.data(),
            page_table.data(),
            capture_rows.data(),
            capture_slots.data(),
            static_cast<int64_t>(past_len.shape(0)),
            static_cast<int64_t>(page_table.shape(1)),
            static_cast<int64_t>(capture_rows.shape(0)),
            journals.shape(0) ? journals.data() : nullptr,
            pending.data(),
            defers.data()};
  }
};

std::unique_ptr<Step> make_step(In<int32_t, 1> starts, In<int32_t, 1> past_len, In<int32_t, 1> slots,
                                In<int32_t, 2> page_table, In<int32_t, 1> capture_rows, In<int32_t, 1> capture_slots,
                                In<int32_t, 1> journals, In<int32_t, 1> pending, In<int32_t, 1> defers) {
  const auto sequences = static_cast<int64_t>(past_len.shape(0));
  check("step", "starts", starts, {{"S+1", sequences + 1}});
  check("step", "slots", slots, {{"S", sequences}});
  check("step", "capture_slots", capture_slots, {{"C", static_cast<int64_t>(capture_rows.shape(0))}});
  if (journals.shape(0)) check("step", "journals", journals, {{"S", sequences}});
  check("step", "pending", pending, {{"S", static_cast<int64_t>(journals.shape(0))}});
  check("step", "defers", defers, {{"S", static_cast<int64_t>(journals.shape(0))}});
  require(page_table.shape(0) == past_len.shape(0), "step: page_table should have one row a sequence");
  for (int64_t s = 0; s < sequences; ++s) {
    require(starts.data()[s] <= starts.data()[s + 1], "step: starts must not descend");
    const int64_t end = past_len.data()[s] + starts.data()[s + 1] - starts.data()[s];
    require(end <= static_cast<int64_t>(page_table.shape(1)) * kPage, "step: a sequence has more tokens than pages");
  }
  for (size_t s = 0; s < journals.shape(0); ++s) {
    const int32_t waiting = pending.data()[s];
    require(journals.data()[s] >= 0 ? waiting >= 0 && waiting <= kJournalRows : waiting == 0 && !defers.data()[s],
            "step: more rows are pending than a journal holds");
    require(!defers.data()[s] || starts.data()[s + 1] - starts.data()[s] <= kJournalRows,
            "step: a run that defers is longer than a journal");
  }
  return std::make_unique<Step>(
      Step{starts, past_len, slots, page_table, capture_rows, capture_slots, journals, pending, defers});
}

std::unique_ptr<Weight> pack(Cpu& cpu, const std::string& layout_name, In<uint8_t, 1> source, int64_t experts,
                             int64_t rows, int64_t inputs) {
  const Layout layout = find_layout(layout_name);
  require(inputs % layout_info(layout).inputs == 0, "pack: inputs do not fill whole blocks");
  check("pack", "source", source, {{"bytes", experts * rows * file_row_bytes(layout, inputs)}});
  nb::gil_scoped_release release;
  auto weight = std::make_unique<Weight>(cpu.room(layout, experts, rows, inputs));
  cpu.pack(*weight, source.data());
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
  auto weight = std::make_unique<Weight>(cpu.room(Layout::I8, experts, rows, inputs));
  cpu.pack_codebook(*weight, *format, {vectors.data(), signs.data()}, source.data());
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
  cpu.embed(table, ids.data(), tokens, out.data());
  return out;
}

Out<float> rms_norm(Cpu& cpu, In<float, 2> x, In<float, 1> weight, float eps) {
  const auto rows = static_cast<int64_t>(x.shape(0)), width = static_cast<int64_t>(x.shape(1));
  check("rms_norm", "weight", weight, {{"D", width}});
  auto out = make<float>({x.shape(0), x.shape(1)});
  nb::gil_scoped_release release;
  cpu.rms_norm(x.data(), weight.data(), out.data(), rows, width, eps);
  return out;
}

using NormWeight = std::optional<In<float, 1>>;

Norm norm_of(const char* op, const NormWeight& weight, float eps, int64_t width) {
  if (!weight) return {};
  check(op, "norm", *weight, {{"D", width}});
  return {weight->data(), eps};
}

nb::tuple linear(Cpu& cpu, In<float, 2> x, const std::vector<const Weight*>& weights, const NormWeight& norm,
                 float eps) {
  const auto rows = static_cast<int64_t>(x.shape(0));
  std::vector<Product> products;
  nb::list outs;
  for (const Weight* w : weights) {
    check("linear", "x", x, {{"T", rows}, {"K", w->inputs}});
    count_weight(cpu, *w);
    auto out = make<float>({x.shape(0), static_cast<size_t>(w->rows)});
    products.push_back({w, 0, out.data(), false});
    outs.append(out);
  }
  const auto inputs = static_cast<int64_t>(x.shape(1));
  const Norm before = norm_of("linear", norm, eps, inputs);
  {
    nb::gil_scoped_release release;
    cpu.linear(x.data(), rows, inputs, products, before);
  }
  return nb::tuple(outs);
}

void linear_add(Cpu& cpu, InOut<float, 2> h, In<float, 2> x, const Weight& weight) {
  const auto rows = static_cast<int64_t>(x.shape(0));
  check("linear_add", "x", x, {{"T", rows}, {"K", weight.inputs}});
  check("linear_add", "h", h, {{"T", rows}, {"O", weight.rows}});
  count_weight(cpu, weight);
  nb::gil_scoped_release release;
  cpu.linear(x.data(), rows, weight.inputs, {{&weight, 0, h.data(), true}});
}

// What gate, up and down of a feed-forward network must be to each other and to the rows.
void check_network(const char* op, InOut<float, 2> h, In<float, 2> x, const Weight& gate, const Weight& up,
                   const Weight& down, int64_t experts) {
  const auto rows = static_cast<int64_t>(x.shape(0));
  check(op, "x", x, {{"T", rows}, {"D", gate.inputs}});
  check(op, "h", h, {{"T", rows}, {"D", down.rows}});
  require(up.inputs == gate.inputs && up.rows == gate.rows && down.inputs == gate.rows,
          std::string(op) + ": gate, up and down do not fit together");
  for (const Weight* w : {&gate, &up, &down})
    require(w->experts == experts, std::string(op) + ": not one matrix for each expert");
}

void gated_mlp(Cpu& cpu, InOut<float, 2> h, In<float, 2> x, const Weight& gate, const Weight& up, const Weight& down,
               const NormWeight& norm, float eps) {
  const auto rows = static_cast<int64_t>(x.shape(0));
  check_network("gated_mlp", h, x, gate, up, down, 1);
  for (const Weight* weight : {&gate, &up, &down}) count_weight(cpu, *weight);
  const Norm before = norm_of("gated_mlp", norm, eps, gate.inputs);
  nb::gil_scoped_release release;
  cpu.gated_mlp(h.data(), x.data(), rows, gate, up, down, before);
}

void routed_experts(Cpu& cpu, InOut<float, 2> h, In<float, 2> x, const Weight& router, const Weight& gate,
                    const Weight& up, const Weight& down, const Weight& shared_router, const Weight& shared_gate,
                    const Weight& shared_up, const Weight& shared_down, int64_t num_active, const NormWeight& norm,
                    float eps) {
  const auto rows = static_cast<int64_t>(x.shape(0));
  check_network("routed_experts", h, x, gate, up, down, router.rows);
  check_network("routed_experts", h, x, shared_gate, shared_up, shared_down, 1);
  require(router.inputs == gate.inputs && shared_router.inputs == gate.inputs && shared_router.rows == 1,
          "routed_experts: a router does not fit its experts");
  require(0 < num_active && num_active <= router.rows, "routed_experts: there are not as many experts");
  count_weight(cpu, router);
  count_weight(cpu, shared_router);
  const Norm before = norm_of("routed_experts", norm, eps, gate.inputs);
  nb::gil_scoped_release release;
  cpu.routed_experts(h.data(), x.data(), rows,
                     {&router, &gate, &up, &down, &shared_router, &shared_gate, &shared_up, &shared_down, num_active},
                     before);
}

// What a recurrent mixer keeps, apart from the rows of a step. Arrays of rows and of results are left out.
DeltaArrays delta_arrays(const char* op, In<float, 2> conv, In<float, 1> a, In<float, 1> dt_bias, In<float, 1> norm,
                         InOut<float, 3> tails, InOut<float, 4> states, InOut<float, 3> journals, const Step& step,
                         float eps) {
  const auto slots = static_cast<int64_t>(states.shape(0));
  const auto channels = static_cast<int64_t>(conv.shape(1)), value_heads = static_cast<int64_t>(a.shape(0));
  const int64_t key_heads = (channels - value_heads * 128) / 256;
  require(key_heads > 0 && value_heads % key_heads == 0 && channels == (2 * key_heads + value_heads) * 128,
          std::string(op) + ": value heads are not a multiple of key heads");
  check(op, "conv", conv, {{"taps", 4}, {"C", channels}});
  check(op, "dt_bias", dt_bias, {{"Hv", value_heads}});
  check(op, "norm", norm, {{"value_dim", 128}});
  check(op, "tails", tails, {{"slots", slots}, {"taps-1", 3}, {"C", channels}});
  check(op, "states", states,
        {{"slots", slots}, {"Hv", value_heads}, {"tiles*128", 128 / kStateTile * 128}, {"tile", kStateTile}});
  for (const auto& numbers : {step.slots, step.capture_slots})
    for (size_t s = 0; s < numbers.shape(0); ++s)
      require(numbers.data()[s] >= 0 && numbers.data()[s] < slots, std::string(op) + ": no such slot");
  const auto num_journals = static_cast<int64_t>(journals.shape(0));
  const JournalRow record{channels, key_heads * 128, value_heads * 128, value_heads};
  check(op, "journals", journals, {{"journals", num_journals}, {"rows", kJournalRows}, {"floats", record.floats()}});
  for (size_t s = 0; s < step.journals.shape(0); ++s)
    require(step.journals.data()[s] < num_journals, std::string(op) + ": no such journal");
  DeltaArrays d{};
  d.conv = conv.data(), d.a = a.data(), d.dt_bias = dt_bias.data(), d.norm = norm.data();
  d.tails = tails.data(), d.states = states.data(), d.journals = journals.data();
  d.key_heads = static_cast<int>(key_heads), d.value_heads = static_cast<int>(value_heads), d.eps = eps;
  return d;
}

Out<float> gated_delta(Cpu& cpu, In<float, 2> qkv, In<float, 2> z, In<float, 2> beta, In<float, 2> alpha,
                       In<float, 2> conv, In<float, 1> a, In<float, 1> dt_bias, In<float, 1> norm,
                       InOut<float, 3> tails, InOut<float, 4> states, InOut<float, 3> journals, const Step& step,
                       float eps) {
  DeltaArrays d = delta_arrays("gated_delta", conv, a, dt_bias, norm, tails, states, journals, step, eps);
  const int64_t rows = step.rows(), value_heads = d.value_heads;
  check("gated_delta", "qkv", qkv, {{"T", rows}, {"C", static_cast<int64_t>(conv.shape(1))}});
  check("gated_delta", "z", z, {{"T", rows}, {"Hv*128", value_heads * 128}});
  check("gated_delta", "beta", beta, {{"T", rows}, {"Hv", value_heads}});
  check("gated_delta", "alpha", alpha, {{"T", rows}, {"Hv", value_heads}});
  auto out = make<float>({static_cast<size_t>(rows), static_cast<size_t>(value_heads * 128)});
  d.qkv = qkv.data(), d.z = z.data(), d.beta = beta.data(), d.alpha = alpha.data(), d.out = out.data();
  nb::gil_scoped_release release;
  cpu.gated_delta(d, step.arrays());
  return out;
}

// What a mixer multiplies with: one weight for every width, and one from `inner` to the residual.
void check_mixer(Cpu& cpu, const char* op, InOut<float, 2> h, In<float, 1> norm, int64_t rows,
                 const std::vector<const Weight*>& weights, std::initializer_list<int64_t> widths, const Weight& out,
                 int64_t inner) {
  check(op, "h", h, {{"T", rows}, {"D", out.rows}});
  check(op, "norm", norm, {{"D", out.rows}});
  require(weights.size() == widths.size() && out.inputs == inner, std::string(op) + ": weights do not fit its heads");
  const int64_t* width = widths.begin();
  for (const Weight* w : weights) {
    require(w->rows == *width++ && w->inputs == out.rows, std::string(op) + ": weights do not fit its heads");
    count_weight(cpu, *w);
  }
  count_weight(cpu, out);
}

void delta_mixer(Cpu& cpu, InOut<float, 2> h, In<float, 1> norm, float norm_eps,
                 const std::vector<const Weight*>& weights, const Weight& out, In<float, 2> conv, In<float, 1> a,
                 In<float, 1> dt_bias, In<float, 1> small_norm, InOut<float, 3> tails, InOut<float, 4> states,
                 InOut<float, 3> journals, const Step& step, float eps) {
  const DeltaArrays d = delta_arrays("delta_mixer", conv, a, dt_bias, small_norm, tails, states, journals, step, eps);
  const int64_t inner = int64_t{d.value_heads} * 128;
  check_mixer(cpu, "delta_mixer", h, norm, step.rows(), weights,
              {static_cast<int64_t>(conv.shape(1)), inner, d.value_heads, d.value_heads}, out, inner);
  nb::gil_scoped_release release;
  cpu.delta_mixer(h.data(), {norm.data(), norm_eps}, weights, out, d, step.arrays());
}

// Keys and values of one layer: arrays that Python owns.
struct Pages {
  int bits;
  int64_t num_pages, kv_heads, head_dim;
  InOut<uint8_t, 1> keys, values;
  InOut<uint16_t, 1> key_scales, value_scales;

  KvStore store() const { return {bits, keys.data(), values.data(), key_scales.data(), value_scales.data()}; }
};

std::unique_ptr<Pages> make_pages(int bits, int64_t num_pages, int64_t kv_heads, int64_t head_dim,
                                  InOut<uint8_t, 1> keys, InOut<uint8_t, 1> values, InOut<uint16_t, 1> key_scales,
                                  InOut<uint16_t, 1> value_scales) {
  require(bits == 8 || bits == 16 || bits == 32, "pages: bits should be 8, 16 or 32");
  require(head_dim % kKvBlock == 0 && head_dim <= 512, "pages: unusual head width");
  const int64_t count = num_pages * kv_heads * kPage * head_dim, scales = bits == 8 ? count / kKvBlock : 0;
  check("pages", "keys", keys, {{"bytes", count * bits / 8}});
  check("pages", "values", values, {{"bytes", count * bits / 8}});
  check("pages", "key_scales", key_scales, {{"scales", scales}});
  check("pages", "value_scales", value_scales, {{"scales", scales}});
  return std::make_unique<Pages>(Pages{bits, num_pages, kv_heads, head_dim, keys, values, key_scales, value_scales});
}

// What an attention mixer keeps, apart from the rows of a step. Arrays of rows and of results are left out.
AttentionArrays attention_arrays(const char* op, In<float, 1> query_norm, In<float, 1> key_norm, In<float, 2> cos,
                                 In<float, 2> sin, const Pages& pages, const Step& step, int heads, float eps) {
  const int64_t rows = step.rows(), kv_heads = pages.kv_heads, head_dim = pages.head_dim;
  const auto half = static_cast<int64_t>(cos.shape(1));
  require(heads > 0 && heads % kv_heads == 0, std::string(op) + ": heads are not a multiple of key/value heads");
  require(head_dim % 64 == 0 && head_dim <= 512 && half % 16 == 0 && 2 * half <= head_dim,
          std::string(op) + ": unusual head or rotary width");
  check(op, "query_norm", query_norm, {{"head_dim", head_dim}});
  check(op, "key_norm", key_norm, {{"head_dim", head_dim}});
  check(op, "cos", cos, {{"T", rows}, {"rotary_dim/2", half}});
  check(op, "sin", sin, {{"T", rows}, {"rotary_dim/2", half}});
  const StepArrays arrays = step.arrays();
  for (int64_t s = 0; s < arrays.sequences; ++s) {
    const int64_t end = arrays.past_len[s] + arrays.starts[s + 1] - arrays.starts[s];
    for (int64_t p = 0; p * kPage < end; ++p) {
      const int32_t page = arrays.page_table[s * arrays.pages_per_sequence + p];
      require(page >= 0 && page < pages.num_pages, std::string(op) + ": no such page");
    }
  }
  AttentionArrays a{};
  a.query_norm = query_norm.data(), a.key_norm = key_norm.data(), a.cos = cos.data(), a.sin = sin.data();
  a.kv = pages.store();
  a.shape = {heads, static_cast<int>(kv_heads), static_cast<int>(head_dim), static_cast<int>(2 * half), eps};
  return a;
}

Out<float> gated_attention(Cpu& cpu, In<float, 2> query_gate, In<float, 2> key, In<float, 2> value,
                           In<float, 1> query_norm, In<float, 1> key_norm, In<float, 2> cos, In<float, 2> sin,
                           const Pages& pages, const Step& step, int heads, float eps) {
  AttentionArrays a = attention_arrays("gated_attention", query_norm, key_norm, cos, sin, pages, step, heads, eps);
  const int64_t rows = step.rows(), width = heads * pages.head_dim, kv_width = pages.kv_heads * pages.head_dim;
  check("gated_attention", "query_gate", query_gate, {{"T", rows}, {"H*2*head_dim", 2 * width}});
  check("gated_attention", "key", key, {{"T", rows}, {"Hkv*head_dim", kv_width}});
  check("gated_attention", "value", value, {{"T", rows}, {"Hkv*head_dim", kv_width}});
  auto out = make<float>({static_cast<size_t>(rows), static_cast<size_t>(width)});
  a.query_gate = query_gate.data(), a.key = key.data(), a.value = value.data(), a.out = out.data();
  nb::gil_scoped_release release;
  cpu.gated_attention(a, step.arrays());
  return out;
}

void attention_mixer(Cpu& cpu, InOut<float, 2> h, In<float, 1> norm, float norm_eps,
                     const std::vector<const Weight*>& weights, const Weight& out, In<float, 1> query_norm,
                     In<float, 1> key_norm, In<float, 2> cos, In<float, 2> sin, const Pages& pages, const Step& step,
                     int heads, float eps) {
  const AttentionArrays a =
      attention_arrays("attention_mixer", query_norm, key_norm, cos, sin, pages, step, heads, eps);
  const int64_t width = heads * pages.head_dim, kv_width = pages.kv_heads * pages.head_dim;
  check_mixer(cpu, "attention_mixer", h, norm, step.rows(), weights, {2 * width, kv_width, kv_width}, out, width);
  nb::gil_scoped_release release;
  cpu.attention_mixer(h.data(), {norm.data(), norm_eps}, weights, out, a, step.arrays());
}

nb::tuple rotary(Cpu& cpu, In<int32_t, 2> positions, In<double, 1> frequencies, In<int32_t, 1> axes, double magnitude) {
  const auto tokens = static_cast<int64_t>(positions.shape(0)), pairs = static_cast<int64_t>(frequencies.shape(0));
  check("rotary", "positions", positions, {{"T", tokens}, {"axes", 3}});
  check("rotary", "axes", axes, {{"pairs", pairs}});
  auto cos = make<float>({positions.shape(0), frequencies.shape(0)});
  auto sin = make<float>({positions.shape(0), frequencies.shape(0)});
  cpu.rotary(positions.data(), tokens, frequencies.data(), axes.data(), pairs, magnitude, cos.data(), sin.data());
  return nb::make_tuple(cos, sin);
}

// The k largest of a row, largest first, ties by lower id; with the log-sum-exp of the whole row.
nb::tuple candidates(Cpu& cpu, In<float, 1> logits, int64_t k) {
  const float* x = logits.data();
  const auto n = static_cast<int64_t>(logits.shape(0));
  k = std::clamp<int64_t>(k, 0, n);
  auto ids = make<int32_t>({static_cast<size_t>(k)});
  auto values = make<float>({static_cast<size_t>(k)});
  float log_sum = 0;
  {
    nb::gil_scoped_release release;
    log_sum = cpu.table().log_sum_exp(x, n);
    Best best(k);
    for (int32_t i = 0; i < n && k > 0; ++i)
      if (x[i] >= best.bar()) best.offer(i, x[i]);
    best.take(ids.data(), values.data());
  }
  return nb::make_tuple(ids, values, log_sum);
}

// The k largest logits of every row, without the excluded ids: ids [R n], logits [R n].
nb::tuple largest(Cpu& cpu, In<float, 2> x, const Weight& head, int64_t k, In<int32_t, 1> excluded) {
  const auto rows = static_cast<int64_t>(x.shape(0)), num_excluded = static_cast<int64_t>(excluded.shape(0));
  check("largest", "x", x, {{"R", rows}, {"D", head.inputs}});
  require(std::is_sorted(excluded.data(), excluded.data() + num_excluded), "largest: excluded ids must ascend");
  count_weight(cpu, head);
  k = std::clamp<int64_t>(k, 0, head.rows - num_excluded);
  auto ids = make<int32_t>({x.shape(0), static_cast<size_t>(k)});
  auto values = make<float>({x.shape(0), static_cast<size_t>(k)});
  {
    nb::gil_scoped_release release;
    cpu.largest(x.data(), rows, head, k, excluded.data(), num_excluded, ids.data(), values.data());
  }
  return nb::make_tuple(ids, values);
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
  cpu.layer_norm(x.data(), weight.data(), bias.data(), out.data(), rows, width, eps);
  return out;
}

void add_bias(Cpu& cpu, InOut<float, 2> x, In<float, 1> bias) {
  const auto rows = static_cast<int64_t>(x.shape(0)), width = static_cast<int64_t>(x.shape(1));
  check("add_bias", "bias", bias, {{"D", width}});
  nb::gil_scoped_release release;
  cpu.add_bias(x.data(), bias.data(), rows, width);
}

void gelu(Cpu& cpu, InOut<float, 2> x, bool exact) {
  const auto count = static_cast<int64_t>(x.shape(0) * x.shape(1));
  nb::gil_scoped_release release;
  cpu.gelu(x.data(), count, exact);
}

std::unique_ptr<VisionPack> place_heads(Cpu& cpu, In<float, 2> qkv, In<float, 2> cos, In<float, 2> sin, int heads) {
  const auto rows = static_cast<int64_t>(qkv.shape(0)), half = static_cast<int64_t>(cos.shape(1));
  require(heads > 0 && rows > 0 && half > 0 && 2 * half <= kMaxVisionDim, "vision_heads: unusual shape");
  check("vision_heads", "qkv", qkv, {{"N", rows}, {"3*H*head_dim", 6 * heads * half}});
  check("vision_heads", "cos", cos, {{"N", rows}, {"head_dim/2", half}});
  check("vision_heads", "sin", sin, {{"N", rows}, {"head_dim/2", half}});
  nb::gil_scoped_release release;
  auto pack = std::make_unique<VisionPack>(rows, heads, static_cast<int>(2 * half), cpu.table().float_columns);
  cpu.place_heads(qkv.data(), cos.data(), sin.data(), *pack);
  return pack;
}

Out<float> attend_picture(Cpu& cpu, const VisionPack& pack, int64_t start, int64_t end) {
  require(0 <= start && start < end && end <= pack.heads.rows, "vision_attention: no such rows");
  auto out = make<float>({static_cast<size_t>(end - start), static_cast<size_t>(pack.num_heads * pack.heads.head_dim)});
  nb::gil_scoped_release release;
  cpu.attend_picture(pack, start, end, out.data());
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

std::vector<std::string> isa_names() {
  std::vector<std::string> names;
  for (const KernelTable* table : usable_tables()) names.emplace_back(table->name);
  return names;
}

}  // namespace
}  // namespace loqal

NB_MODULE(_kernels, m) {
  using namespace loqal;
  m.doc() = "Native kernels of loqal. See ops/cpu.py, their only caller.";
  m.def("isas", &isa_names, "Instruction sets this machine can run, best first.");
  m.def("usable_cpus", &usable_cpus, "CPUs of the affinity mask within the cgroup's quota.");

  nb::class_<Weight>(m, "Weight")
      .def_ro("experts", &Weight::experts)
      .def_ro("rows", &Weight::rows)
      .def_ro("inputs", &Weight::inputs)
      .def_prop_ro("layout", [](const Weight& w) { return layout_info(w.layout).name; })
      .def_prop_ro("num_bytes", &Weight::num_bytes)
      .def("packed", [](nb::handle self) {
        const auto& w = nb::cast<const Weight&>(self);
        return nb::ndarray<nb::numpy, const uint8_t>(w.packed, {w.num_bytes()}, self);
      });

  nb::class_<Step>(m, "Step");
  nb::class_<VisionPack>(m, "VisionPack");
  nb::class_<Pages>(m, "Pages");
  m.def("make_pages", &make_pages, "bits"_a, "num_pages"_a, "kv_heads"_a, "head_dim"_a, "keys"_a, "values"_a,
        "key_scales"_a, "value_scales"_a);
  m.def("make_step", &make_step, "starts"_a, "past_len"_a, "slots"_a, "page_table"_a, "capture_rows"_a,
        "capture_slots"_a, "journals"_a, "pending"_a, "defers"_a);

  nb::class_<Cpu>(m, "Cpu")
      .def_prop_ro("isa", [](const Cpu& c) { return c.table().name; })
      .def_prop_ro("threads", &Cpu::threads)
      .def_prop_ro("busy_s", [](Cpu& c) { return static_cast<double>(c.meter().busy_ns) * 1e-9; })
      .def_prop_ro("weight_bytes", [](Cpu& c) { return c.meter().weight_bytes.load(); })
      .def("read_gb_per_s", &measured_read, "bytes"_a)
      .def("int8_gops", &measured_int8)
      .def("float_gflops", &measured_float)
      .def("pack", &pack, "layout"_a, "source"_a, "experts"_a, "rows"_a, "inputs"_a)
      .def("pack_codebook", &pack_codebook, "format"_a, "source"_a, "vectors"_a, "signs"_a, "experts"_a, "rows"_a,
           "inputs"_a)
      .def("embed", &Timed<&embed>::call, "table"_a, "ids"_a)
      .def("rms_norm", &Timed<&rms_norm>::call, "x"_a, "weight"_a, "eps"_a)
      .def("linear", &Timed<&linear>::call, "x"_a, "weights"_a, "norm"_a = nb::none(), "eps"_a = 0.0f)
      .def("linear_add", &Timed<&linear_add>::call, "h"_a, "x"_a, "weight"_a)
      .def("gated_mlp", &Timed<&gated_mlp>::call, "h"_a, "x"_a, "gate"_a, "up"_a, "down"_a, "norm"_a = nb::none(),
           "eps"_a = 0.0f)
      .def("routed_experts", &Timed<&routed_experts>::call, "h"_a, "x"_a, "router"_a, "gate"_a, "up"_a, "down"_a,
           "shared_router"_a, "shared_gate"_a, "shared_up"_a, "shared_down"_a, "num_active"_a, "norm"_a = nb::none(),
           "eps"_a = 0.0f)
      .def("gated_delta", &Timed<&gated_delta>::call, "qkv"_a, "z"_a, "beta"_a, "alpha"_a, "conv"_a, "a"_a, "dt_bias"_a,
           "norm"_a, "tails"_a, "states"_a, "journals"_a, "step"_a, "eps"_a)
      .def("gated_attention", &Timed<&gated_attention>::call, "query_gate"_a, "key"_a, "value"_a, "query_norm"_a,
           "key_norm"_a, "cos"_a, "sin"_a, "pages"_a, "step"_a, "heads"_a, "eps"_a)
      .def("attention_mixer", &Timed<&attention_mixer>::call, "h"_a, "norm"_a, "norm_eps"_a, "weights"_a, "out"_a,
           "query_norm"_a, "key_norm"_a, "cos"_a, "sin"_a, "pages"_a, "step"_a, "heads"_a, "eps"_a)
      .def("delta_mixer", &Timed<&delta_mixer>::call, "h"_a, "norm"_a, "norm_eps"_a, "weights"_a, "out"_a, "conv"_a,
           "a"_a, "dt_bias"_a, "small_norm"_a, "tails"_a, "states"_a, "journals"_a, "step"_a, "eps"_a)
      .def("rotary", &Timed<&rotary>::call, "positions"_a, "frequencies"_a, "axes"_a, "magnitude"_a)
      .def("layer_norm", &Timed<&layer_norm>::call, "x"_a, "weight"_a, "bias"_a, "eps"_a)
      .def("add_bias", &Timed<&add_bias>::call, "x"_a, "bias"_a)
      .def("gelu", &Timed<&gelu>::call, "x"_a, "exact"_a)
      .def("vision_heads", &Timed<&place_heads>::call, "qkv"_a, "cos"_a, "sin"_a, "heads"_a)
      .def("vision_attention", &Timed<&attend_picture>::call, "heads"_a, "start"_a, "end"_a)
      .def("candidates", &Timed<&candidates>::call, "logits"_a, "k"_a)
      .def("largest", &Timed<&largest>::call, "x"_a, "head"_a, "k"_a, "excluded"_a)
      .def("softmax", &Timed<&softmax>::call, "x"_a);
  m.attr("JOURNAL_ROWS") = kJournalRows;
  m.attr("STATE_TILE") = kStateTile;
  bind_encode(m);
  m.attr("LAYOUT_VERSION") = kLayoutVersion;
  m.def("packed_bytes", &packed_bytes, "layout"_a, "experts"_a, "rows"_a, "inputs"_a);
  m.def("adopt", &adopt, "layout"_a, "packed"_a, "experts"_a, "rows"_a, "inputs"_a);
  m.def("make_cpu", &make_cpu, "isa"_a, "threads"_a);
}
