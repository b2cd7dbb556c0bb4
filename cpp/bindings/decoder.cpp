// Mixers, feed-forward networks and whole layers as Python sees them; what they keep between steps, and the steps.
#include <functional>
#include <utility>

#include "bindings/bindings.h"
#include "decoder/layers.h"
#include "ops/experts.h"
#include "ops/mlp.h"

namespace loqal::python {
namespace {

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

// What gate, up and down of a feed-forward network must be to each other and to the rows.
void check_network(const char* op, const InOut<float, 2>& h, const auto& x, const Weight& gate, const Weight& up,
                   const Weight& down, int64_t experts) {
  const auto rows = static_cast<int64_t>(x.shape(0));
  check(op, "x", x, {{"T", rows}, {"D", gate.inputs}});
  check(op, "h", h, {{"T", rows}, {"D", down.rows}});
  require(up.inputs == gate.inputs && up.rows == gate.rows && down.inputs == gate.rows,
          std::string(op) + ": gate, up and down do not fit together");
  for (const Weight* w : {&gate, &up, &down})
    require(w->experts == experts, std::string(op) + ": not one matrix for each expert");
}

Norm check_mlp(Cpu& cpu, const InOut<float, 2>& h, const auto& x, const Weight& gate, const Weight& up,
               const Weight& down, const NormWeight& norm, float eps) {
  check_network("gated_mlp", h, x, gate, up, down, 1);
  for (const Weight* weight : {&gate, &up, &down}) count_weight(cpu, *weight);
  return norm_of("gated_mlp", norm, eps, gate.inputs);
}

void gated_mlp(Cpu& cpu, InOut<float, 2> h, In<float, 2> x, const Weight& gate, const Weight& up, const Weight& down,
               const NormWeight& norm, float eps) {
  const auto rows = static_cast<int64_t>(x.shape(0));
  const Norm before = check_mlp(cpu, h, x, gate, up, down, norm, eps);
  nb::gil_scoped_release release;
  loqal::gated_mlp(cpu, h.data(), x.data(), rows, gate, up, down, before);
}

Norm check_experts(Cpu& cpu, const InOut<float, 2>& h, const auto& x, const Experts& e, const NormWeight& norm,
                   float eps) {
  check_network("routed_experts", h, x, *e.gate, *e.up, *e.down, e.router->rows);
  check_network("routed_experts", h, x, *e.shared_gate, *e.shared_up, *e.shared_down, 1);
  require(e.router->inputs == e.gate->inputs && e.shared_router->inputs == e.gate->inputs && e.shared_router->rows == 1,
          "routed_experts: a router does not fit its experts");
  require(0 < e.num_active && e.num_active <= e.router->rows, "routed_experts: there are not as many experts");
  count_weight(cpu, *e.router);
  count_weight(cpu, *e.shared_router);
  return norm_of("routed_experts", norm, eps, e.gate->inputs);
}

void routed_experts(Cpu& cpu, InOut<float, 2> h, In<float, 2> x, const Weight& router, const Weight& gate,
                    const Weight& up, const Weight& down, const Weight& shared_router, const Weight& shared_gate,
                    const Weight& shared_up, const Weight& shared_down, int64_t num_active, const NormWeight& norm,
                    float eps) {
  const Experts experts{&router, &gate, &up, &down, &shared_router, &shared_gate, &shared_up, &shared_down, num_active};
  const Norm before = check_experts(cpu, h, x, experts, norm, eps);
  const auto rows = static_cast<int64_t>(x.shape(0));
  nb::gil_scoped_release release;
  loqal::routed_experts(cpu, h.data(), x.data(), rows, experts, before);
}

// Recurrent states of one layer: arrays that Python owns.
struct Slots {
  InOut<float, 3> tails;
  InOut<float, 4> states;
  InOut<float, 3> journals;
};

std::unique_ptr<Slots> make_slots(InOut<float, 3> tails, InOut<float, 4> states, InOut<float, 3> journals) {
  return std::make_unique<Slots>(Slots{tails, states, journals});
}

// What a recurrent mixer keeps, apart from the rows of a step. Arrays of rows and of results are left out.
DeltaArrays delta_arrays(const char* op, const In<float, 2>& conv, const In<float, 1>& a, const In<float, 1>& dt_bias,
                         const In<float, 1>& norm, const Slots& kept, const Step& step, float eps) {
  const auto& [tails, states, journals] = kept;
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
                       In<float, 2> conv, In<float, 1> a, In<float, 1> dt_bias, In<float, 1> norm, const Slots& slots,
                       const Step& step, float eps) {
  DeltaArrays d = delta_arrays("gated_delta", conv, a, dt_bias, norm, slots, step, eps);
  const int64_t rows = step.rows(), value_heads = d.value_heads;
  check("gated_delta", "qkv", qkv, {{"T", rows}, {"C", static_cast<int64_t>(conv.shape(1))}});
  check("gated_delta", "z", z, {{"T", rows}, {"Hv*128", value_heads * 128}});
  check("gated_delta", "beta", beta, {{"T", rows}, {"Hv", value_heads}});
  check("gated_delta", "alpha", alpha, {{"T", rows}, {"Hv", value_heads}});
  auto out = make<float>({static_cast<size_t>(rows), static_cast<size_t>(value_heads * 128)});
  d.qkv = qkv.data(), d.z = z.data(), d.beta = beta.data(), d.alpha = alpha.data(), d.out = out.data();
  nb::gil_scoped_release release;
  loqal::gated_delta(cpu, d, step.arrays());
  return out;
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
AttentionArrays attention_arrays(const char* op, const In<float, 1>& query_norm, const In<float, 1>& key_norm,
                                 const In<float, 2>& cos, const In<float, 2>& sin, const Pages& pages, const Step& step,
                                 int heads, float eps) {
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
  loqal::gated_attention(cpu, a, step.arrays());
  return out;
}

// Decoder layers ------------------------------------------------------------------------------------------------------

// What a step brings to its layers.
struct Pass {
  InOut<float, 2> h;
  In<float, 2> cos, sin;
  const Step& step;
};
using Call = std::function<void()>;

// Mixers and networks, to be run in the order in which they were added; what they are made of stays alive with them.
class Layers {
 public:
  void add_attention(In<float, 1> norm, float eps, const std::vector<const Weight*>& inputs, const Weight& out,
                     In<float, 1> query_norm, In<float, 1> key_norm, int heads) {
    add(true, [=, &out](Cpu& cpu, const Pass& pass, nb::handle state) -> Call {
      const auto& pages = nb::cast<const Pages&>(state);
      const AttentionArrays a =
          attention_arrays("attention", query_norm, key_norm, pass.cos, pass.sin, pages, pass.step, heads, eps);
      const int64_t width = heads * pages.head_dim, kv_width = pages.kv_heads * pages.head_dim;
      check_mixer(cpu, "attention", pass, norm, inputs, {2 * width, kv_width, kv_width}, out, width);
      return [=, &cpu, &out, &inputs, h = pass.h.data(), before = Norm{norm.data(), eps}, step = pass.step.arrays()] {
        loqal::attention_mixer(cpu, h, before, inputs, out, a, step);
      };
    });
  }
  void add_delta(In<float, 1> norm, float eps, const std::vector<const Weight*>& inputs, const Weight& out,
                 In<float, 2> conv, In<float, 1> a, In<float, 1> dt_bias, In<float, 1> small_norm) {
    add(true, [=, &out](Cpu& cpu, const Pass& pass, nb::handle state) -> Call {
      const DeltaArrays d =
          delta_arrays("delta", conv, a, dt_bias, small_norm, nb::cast<const Slots&>(state), pass.step, eps);
      const int64_t inner = int64_t{d.value_heads} * 128, channels = static_cast<int64_t>(conv.shape(1));
      check_mixer(cpu, "delta", pass, norm, inputs, {channels, inner, d.value_heads, d.value_heads}, out, inner);
      return [=, &cpu, &out, &inputs, h = pass.h.data(), before = Norm{norm.data(), eps}, step = pass.step.arrays()] {
        loqal::delta_mixer(cpu, h, before, inputs, out, d, step);
      };
    });
  }
  void add_mlp(In<float, 1> norm, float eps, const Weight& gate, const Weight& up, const Weight& down) {
    add(false, [=, &gate, &up, &down](Cpu& cpu, const Pass& pass, nb::handle) -> Call {
      const Norm before = check_mlp(cpu, pass.h, pass.h, gate, up, down, norm, eps);
      return [=, &cpu, &gate, &up, &down, h = pass.h.data(), rows = pass.step.rows()] {
        loqal::gated_mlp(cpu, h, h, rows, gate, up, down, before);
      };
    });
  }
  void add_experts(In<float, 1> norm, float eps, const Weight& router, const Weight& gate, const Weight& up,
                   const Weight& down, const Weight& shared_router, const Weight& shared_gate, const Weight& shared_up,
                   const Weight& shared_down, int64_t num_active) {
    const Experts experts{&router,      &gate,      &up,          &down,     &shared_router,
                          &shared_gate, &shared_up, &shared_down, num_active};
    add(false, [=](Cpu& cpu, const Pass& pass, nb::handle) -> Call {
      const Norm before = check_experts(cpu, pass.h, pass.h, experts, norm, eps);
      return [=, &cpu, h = pass.h.data(), rows = pass.step.rows()] {
        loqal::routed_experts(cpu, h, h, rows, experts, before);
      };
    });
  }

  // Everything is checked before anything is computed.
  std::vector<Call> calls(Cpu& cpu, const Pass& pass, nb::sequence states) const {
    require(nb::len(states) == num_states_, "run_layers: not one store of states for every layer");
    std::vector<Call> out;
    size_t next = 0;
    for (const Part& part : parts_) {
      const nb::object state = part.has_state ? nb::object(states[next++]) : nb::none();
      out.push_back(part.call(cpu, pass, state));
    }
    return out;
  }

 private:
  using MakeCall = std::function<Call(Cpu&, const Pass&, nb::handle)>;
  struct Part {
    bool has_state;
    MakeCall call;
  };
  static void check_mixer(Cpu& cpu, const char* op, const Pass& pass, const In<float, 1>& norm,
                          const std::vector<const Weight*>& weights, std::initializer_list<int64_t> widths,
                          const Weight& out, int64_t inner) {
    check(op, "h", pass.h, {{"T", pass.step.rows()}, {"D", out.rows}});
    check(op, "norm", norm, {{"D", out.rows}});
    require(weights.size() == widths.size() && out.inputs == inner, std::string(op) + ": weights do not fit its heads");
    const int64_t* width = widths.begin();
    for (const Weight* w : weights) {
      require(w->rows == *width++ && w->inputs == out.rows, std::string(op) + ": weights do not fit its heads");
      count_weight(cpu, *w);
    }
    count_weight(cpu, out);
  }
  void add(bool has_state, MakeCall call) {
    num_states_ += has_state;
    parts_.push_back({has_state, std::move(call)});
  }

  std::vector<Part> parts_;
  size_t num_states_ = 0;
};

void run_layers(Cpu& cpu, InOut<float, 2> h, const Layers& layers, nb::sequence states, In<float, 2> cos,
                In<float, 2> sin, const Step& step) {
  const std::vector<Call> calls = layers.calls(cpu, {h, cos, sin, step}, states);
  nb::gil_scoped_release release;
  for (const Call& call : calls) call();
}

}  // namespace

void bind_layers(nb::module_& m, nb::class_<Cpu>& cpu) {
  nb::class_<Step>(m, "Step");
  m.def("make_step", &make_step, "starts"_a, "past_len"_a, "slots"_a, "page_table"_a, "capture_rows"_a,
        "capture_slots"_a, "journals"_a, "pending"_a, "defers"_a);
  nb::class_<Pages>(m, "Pages");
  m.def("make_pages", &make_pages, "bits"_a, "num_pages"_a, "kv_heads"_a, "head_dim"_a, "keys"_a, "values"_a,
        "key_scales"_a, "value_scales"_a);
  nb::class_<Slots>(m, "Slots");
  m.def("make_slots", &make_slots, "tails"_a, "states"_a, "journals"_a);
  cpu.def("gated_mlp", &Timed<&gated_mlp>::call, "h"_a, "x"_a, "gate"_a, "up"_a, "down"_a, "norm"_a = nb::none(),
          "eps"_a = 0.0f)
      .def("routed_experts", &Timed<&routed_experts>::call, "h"_a, "x"_a, "router"_a, "gate"_a, "up"_a, "down"_a,
           "shared_router"_a, "shared_gate"_a, "shared_up"_a, "shared_down"_a, "num_active"_a, "norm"_a = nb::none(),
           "eps"_a = 0.0f)
      .def("gated_delta", &Timed<&gated_delta>::call, "qkv"_a, "z"_a, "beta"_a, "alpha"_a, "conv"_a, "a"_a, "dt_bias"_a,
           "norm"_a, "slots"_a, "step"_a, "eps"_a)
      .def("gated_attention", &Timed<&gated_attention>::call, "query_gate"_a, "key"_a, "value"_a, "query_norm"_a,
           "key_norm"_a, "cos"_a, "sin"_a, "pages"_a, "step"_a, "heads"_a, "eps"_a)
      .def("run_layers", &Timed<&run_layers>::call, "h"_a, "layers"_a, "states"_a, "cos"_a, "sin"_a, "step"_a);

  // Index 1 is the object itself: weights, or the tuple that holds them, live as long as the layers made of them.
  nb::class_<Layers>(m, "Layers")
      .def(nb::init<>())
      .def("add_attention", &Layers::add_attention, "norm"_a, "eps"_a, "inputs"_a, "out"_a, "query_norm"_a,
           "key_norm"_a, "heads"_a, nb::keep_alive<1, 4>(), nb::keep_alive<1, 5>())
      .def("add_delta", &Layers::add_delta, "norm"_a, "eps"_a, "inputs"_a, "out"_a, "conv"_a, "a"_a, "dt_bias"_a,
           "small_norm"_a, nb::keep_alive<1, 4>(), nb::keep_alive<1, 5>())
      .def("add_mlp", &Layers::add_mlp, "norm"_a, "eps"_a, "gate"_a, "up"_a, "down"_a, nb::keep_alive<1, 4>(),
           nb::keep_alive<1, 5>(), nb::keep_alive<1, 6>())
      .def("add_experts", &Layers::add_experts, "norm"_a, "eps"_a, "router"_a, "gate"_a, "up"_a, "down"_a,
           "shared_router"_a, "shared_gate"_a, "shared_up"_a, "shared_down"_a, "num_active"_a, nb::keep_alive<1, 4>(),
           nb::keep_alive<1, 5>(), nb::keep_alive<1, 6>(), nb::keep_alive<1, 7>(), nb::keep_alive<1, 8>(),
           nb::keep_alive<1, 9>(), nb::keep_alive<1, 10>(), nb::keep_alive<1, 11>());
}

}  // namespace loqal::python
