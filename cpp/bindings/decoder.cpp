// Mixers, feed-forward networks and whole layers as Python sees them; what they keep between steps, and the steps.
#include <utility>

#include "bindings/bindings.h"
#include "decoder/layers.h"

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

// Feed-forward networks -----------------------------------------------------------------------------------------------

// What gate, up and down of a feed-forward network must be to each other.
void check_network(const char* op, const Weight& gate, const Weight& up, const Weight& down, int64_t experts) {
  require(up.inputs == gate.inputs && up.rows == gate.rows && down.inputs == gate.rows,
          std::string(op) + ": gate, up and down do not fit together");
  for (const Weight* w : {&gate, &up, &down})
    require(w->experts == experts, std::string(op) + ": not one matrix for each expert");
}

void check_experts(const Experts& e) {
  check_network("routed_experts", *e.gate, *e.up, *e.down, e.router->rows);
  check_network("routed_experts", *e.shared_gate, *e.shared_up, *e.shared_down, 1);
  require(e.router->inputs == e.gate->inputs && e.shared_gate->inputs == e.gate->inputs &&
              e.shared_router->inputs == e.gate->inputs && e.shared_router->rows == 1,
          "routed_experts: a router does not fit its experts");
  require(e.shared_down->rows == e.down->rows, "routed_experts: the shared expert gives rows of another width");
  require(0 < e.num_active && e.num_active <= e.router->rows, "routed_experts: there are not as many experts");
}

void check_rows(const char* op, const InOut<float, 2>& h, const In<float, 2>& x, const Weight& gate,
                const Weight& down) {
  const auto rows = static_cast<int64_t>(x.shape(0));
  check(op, "x", x, {{"T", rows}, {"D", gate.inputs}});
  check(op, "h", h, {{"T", rows}, {"D", down.rows}});
}

void gated_mlp(Cpu& cpu, InOut<float, 2> h, In<float, 2> x, const Weight& gate, const Weight& up, const Weight& down,
               const NormWeight& norm, float eps) {
  check_network("gated_mlp", gate, up, down, 1);
  check_rows("gated_mlp", h, x, gate, down);
  const Norm before = norm_of("gated_mlp", norm, eps, gate.inputs);
  nb::gil_scoped_release release;
  loqal::gated_mlp(cpu, h.data(), x.data(), static_cast<int64_t>(x.shape(0)), gate, up, down, before);
}

void routed_experts(Cpu& cpu, InOut<float, 2> h, In<float, 2> x, const Weight& router, const Weight& gate,
                    const Weight& up, const Weight& down, const Weight& shared_router, const Weight& shared_gate,
                    const Weight& shared_up, const Weight& shared_down, int64_t num_active, const NormWeight& norm,
                    float eps) {
  const Experts experts{&router, &gate, &up, &down, &shared_router, &shared_gate, &shared_up, &shared_down, num_active};
  check_experts(experts);
  check_rows("routed_experts", h, x, gate, down);
  const Norm before = norm_of("routed_experts", norm, eps, gate.inputs);
  nb::gil_scoped_release release;
  loqal::routed_experts(cpu, h.data(), x.data(), static_cast<int64_t>(x.shape(0)), experts, before);
}

// Gated DeltaNet ------------------------------------------------------------------------------------------------------

// Recurrent states of one layer: arrays that Python owns.
struct Slots {
  InOut<float, 3> tails;
  InOut<float, 4> states;
  InOut<float, 3> journals;

  DeltaStore store() const { return {tails.data(), states.data(), journals.data()}; }
};

std::unique_ptr<Slots> make_slots(InOut<float, 3> tails, InOut<float, 4> states, InOut<float, 3> journals) {
  return std::make_unique<Slots>(Slots{tails, states, journals});
}

struct DeltaHeads {
  int64_t keys, values;

  int64_t key_width() const { return keys * kDeltaHeadDim; }
  int64_t value_width() const { return values * kDeltaHeadDim; }
  int64_t channels() const { return 2 * key_width() + value_width(); }
};

// The heads of a recurrent mixer, from its small weights.
DeltaHeads delta_heads(const char* op, const In<float, 2>& conv, const In<float, 1>& a, const In<float, 1>& dt_bias,
                       const In<float, 1>& norm) {
  const auto channels = static_cast<int64_t>(conv.shape(1)), value_heads = static_cast<int64_t>(a.shape(0));
  const DeltaHeads heads{(channels - value_heads * kDeltaHeadDim) / (2 * kDeltaHeadDim), value_heads};
  require(heads.keys > 0 && heads.values % heads.keys == 0 && heads.channels() == channels,
          std::string(op) + ": value heads are not a multiple of key heads");
  check(op, "conv", conv, {{"taps", kConvWidth}, {"C", channels}});
  check(op, "dt_bias", dt_bias, {{"Hv", value_heads}});
  check(op, "norm", norm, {{"value_dim", kDeltaHeadDim}});
  return heads;
}

void check_slots(const char* op, const Slots& store, const Step& step, const DeltaHeads& heads) {
  const auto slots = static_cast<int64_t>(store.states.shape(0));
  const auto num_journals = static_cast<int64_t>(store.journals.shape(0));
  check(op, "tails", store.tails, {{"slots", slots}, {"taps-1", kConvTail}, {"C", heads.channels()}});
  check(op, "states", store.states,
        {{"slots", slots},
         {"Hv", heads.values},
         {"tiles*128", kDeltaHeadDim / kStateTile * kDeltaHeadDim},
         {"tile", kStateTile}});
  for (const auto& numbers : {step.slots, step.capture_slots})
    for (size_t s = 0; s < numbers.shape(0); ++s)
      require(numbers.data()[s] >= 0 && numbers.data()[s] < slots, std::string(op) + ": no such slot");
  const JournalRow record(heads.keys, heads.values);
  check(op, "journals", store.journals,
        {{"journals", num_journals}, {"rows", kJournalRows}, {"floats", record.floats()}});
  for (size_t s = 0; s < step.journals.shape(0); ++s)
    require(step.journals.data()[s] < num_journals, std::string(op) + ": no such journal");
}

Out<float> gated_delta(Cpu& cpu, In<float, 2> qkv, In<float, 2> z, In<float, 2> beta, In<float, 2> alpha,
                       In<float, 2> conv, In<float, 1> a, In<float, 1> dt_bias, In<float, 1> norm, const Slots& slots,
                       const Step& step, float eps) {
  const DeltaHeads heads = delta_heads("gated_delta", conv, a, dt_bias, norm);
  check_slots("gated_delta", slots, step, heads);
  const int64_t rows = step.rows();
  check("gated_delta", "qkv", qkv, {{"T", rows}, {"C", heads.channels()}});
  check("gated_delta", "z", z, {{"T", rows}, {"Hv*128", heads.value_width()}});
  check("gated_delta", "beta", beta, {{"T", rows}, {"Hv", heads.values}});
  check("gated_delta", "alpha", alpha, {{"T", rows}, {"Hv", heads.values}});
  auto out = make<float>({static_cast<size_t>(rows), static_cast<size_t>(heads.value_width())});
  const DeltaArrays d{qkv.data(),
                      z.data(),
                      beta.data(),
                      alpha.data(),
                      conv.data(),
                      a.data(),
                      dt_bias.data(),
                      norm.data(),
                      slots.tails.data(),
                      slots.states.data(),
                      out.data(),
                      static_cast<int>(heads.keys),
                      static_cast<int>(heads.values),
                      eps,
                      slots.journals.data()};
  nb::gil_scoped_release release;
  loqal::gated_delta(cpu, d, step.arrays());
  return out;
}

// Gated attention -----------------------------------------------------------------------------------------------------

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

// What a step and its rotary angles must be to the pages and heads of an attention mixer.
void check_pages(const char* op, const Pages& pages, const Step& step, const In<float, 2>& cos, const In<float, 2>& sin,
                 int heads) {
  const int64_t rows = step.rows();
  const auto half = static_cast<int64_t>(cos.shape(1));
  require(heads > 0 && heads % pages.kv_heads == 0, std::string(op) + ": heads are not a multiple of key/value heads");
  require(pages.head_dim % 64 == 0 && pages.head_dim <= 512 && half % 16 == 0 && 2 * half <= pages.head_dim,
          std::string(op) + ": unusual head or rotary width");
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
}

Out<float> gated_attention(Cpu& cpu, In<float, 2> query_gate, In<float, 2> key, In<float, 2> value,
                           In<float, 1> query_norm, In<float, 1> key_norm, In<float, 2> cos, In<float, 2> sin,
                           const Pages& pages, const Step& step, int heads, float eps) {
  check_pages("gated_attention", pages, step, cos, sin, heads);
  const int64_t rows = step.rows(), width = heads * pages.head_dim, kv_width = pages.kv_heads * pages.head_dim;
  check("gated_attention", "query_norm", query_norm, {{"head_dim", pages.head_dim}});
  check("gated_attention", "key_norm", key_norm, {{"head_dim", pages.head_dim}});
  check("gated_attention", "query_gate", query_gate, {{"T", rows}, {"H*2*head_dim", 2 * width}});
  check("gated_attention", "key", key, {{"T", rows}, {"Hkv*head_dim", kv_width}});
  check("gated_attention", "value", value, {{"T", rows}, {"Hkv*head_dim", kv_width}});
  auto out = make<float>({static_cast<size_t>(rows), static_cast<size_t>(width)});
  const AttentionShape shape{heads, static_cast<int>(pages.kv_heads), static_cast<int>(pages.head_dim),
                             static_cast<int>(2 * cos.shape(1)), eps};
  const AttentionArrays a{query_gate.data(), key.data(), value.data(),  query_norm.data(), key_norm.data(),
                          cos.data(),        sin.data(), pages.store(), out.data(),        shape};
  nb::gil_scoped_release release;
  loqal::gated_attention(cpu, a, step.arrays());
  return out;
}

// Decoder layers ------------------------------------------------------------------------------------------------------

// The numbers of an array, which lives as long as they are used. It must be let go of under the interpreter lock.
template <class Array>
FloatsRef keep(const Array& array) {
  return {std::make_shared<Array>(array), array.data()};
}

// Blocks in the order in which they were added. Weights are checked against each other here, once.
struct Layers {
  std::vector<Block> blocks;

  void add_attention(In<float, 1> norm, float eps, const std::vector<std::shared_ptr<Weight>>& inputs,
                     std::shared_ptr<Weight> out, In<float, 1> query_norm, In<float, 1> key_norm, int heads) {
    const auto head_dim = static_cast<int64_t>(query_norm.shape(0));
    require(inputs.size() == 3 && heads > 0 && head_dim > 0, "attention: weights do not fit its heads");
    const int64_t width = heads * head_dim, kv_width = inputs[1]->rows, kv_heads = kv_width / head_dim;
    check_mixer("attention", norm, inputs, {2 * width, kv_heads * head_dim, kv_width}, *out, width);
    check("attention", "key_norm", key_norm, {{"head_dim", head_dim}});
    add(norm, eps,
        AttentionMixer{inputs[0], inputs[1], inputs[2], out, keep(query_norm), keep(key_norm), heads,
                       static_cast<int>(kv_heads), static_cast<int>(head_dim)});
  }
  void add_delta(In<float, 1> norm, float eps, const std::vector<std::shared_ptr<Weight>>& inputs,
                 std::shared_ptr<Weight> out, In<float, 2> conv, In<float, 1> a, In<float, 1> dt_bias,
                 In<float, 1> small_norm) {
    const DeltaHeads heads = delta_heads("delta", conv, a, dt_bias, small_norm);
    check_mixer("delta", norm, inputs, {heads.channels(), heads.value_width(), heads.values, heads.values}, *out,
                heads.value_width());
    add(norm, eps,
        DeltaMixer{inputs[0], inputs[1], inputs[2], inputs[3], out, keep(conv), keep(a), keep(dt_bias),
                   keep(small_norm), static_cast<int>(heads.keys), static_cast<int>(heads.values)});
  }
  void add_mlp(In<float, 1> norm, float eps, std::shared_ptr<Weight> gate, std::shared_ptr<Weight> up,
               std::shared_ptr<Weight> down) {
    check_network("gated_mlp", *gate, *up, *down, 1);
    check_width("gated_mlp", norm, *gate, *down);
    add(norm, eps, DenseMlp{gate, up, down});
  }
  void add_experts(In<float, 1> norm, float eps, std::shared_ptr<Weight> router, std::shared_ptr<Weight> gate,
                   std::shared_ptr<Weight> up, std::shared_ptr<Weight> down, std::shared_ptr<Weight> shared_router,
                   std::shared_ptr<Weight> shared_gate, std::shared_ptr<Weight> shared_up,
                   std::shared_ptr<Weight> shared_down, int64_t num_active) {
    check_experts({router.get(), gate.get(), up.get(), down.get(), shared_router.get(), shared_gate.get(),
                   shared_up.get(), shared_down.get(), num_active});
    check_width("routed_experts", norm, *gate, *down);
    add(norm, eps, ExpertsMlp{router, gate, up, down, shared_router, shared_gate, shared_up, shared_down, num_active});
  }

 private:
  static void check_mixer(const char* op, const In<float, 1>& norm, const std::vector<std::shared_ptr<Weight>>& weights,
                          std::initializer_list<int64_t> widths, const Weight& out, int64_t inner) {
    check(op, "norm", norm, {{"D", out.rows}});
    require(weights.size() == widths.size() && out.inputs == inner, std::string(op) + ": weights do not fit its heads");
    const int64_t* width = widths.begin();
    for (const std::shared_ptr<Weight>& w : weights)
      require(w->rows == *width++ && w->inputs == out.rows, std::string(op) + ": weights do not fit its heads");
  }
  static void check_width(const char* op, const In<float, 1>& norm, const Weight& gate, const Weight& down) {
    check(op, "norm", norm, {{"D", gate.inputs}});
    require(down.rows == gate.inputs, std::string(op) + ": rows come out wider or narrower than they go in");
  }
  void add(const In<float, 1>& norm, float eps, decltype(Block::part) part) {
    blocks.push_back({keep(norm), eps, std::move(part)});
  }
};

int64_t width_of(const Block& block) {
  if (const auto* m = std::get_if<AttentionMixer>(&block.part)) return m->out->rows;
  if (const auto* m = std::get_if<DeltaMixer>(&block.part)) return m->out->rows;
  if (const auto* m = std::get_if<DenseMlp>(&block.part)) return m->down->rows;
  return std::get<ExpertsMlp>(block.part).down->rows;
}

using State = std::variant<const Pages*, const Slots*>;

// The stores of all mixers, checked before anything is computed.
std::vector<MixerStore> checked_stores(const Layers& layers, const std::vector<State>& states, const In<float, 2>& cos,
                                       const In<float, 2>& sin, const Step& step) {
  std::vector<MixerStore> stores;
  for (const Block& block : layers.blocks) {
    const auto* attention = std::get_if<AttentionMixer>(&block.part);
    const auto* delta = std::get_if<DeltaMixer>(&block.part);
    if (!attention && !delta) continue;
    require(stores.size() < states.size(), "run_layers: not one store of states for every layer");
    const State& state = states[stores.size()];
    require((attention != nullptr) == std::holds_alternative<const Pages*>(state),
            "run_layers: attention takes pages and the recurrent mixers slots");
    if (attention) {
      const Pages& pages = *std::get<const Pages*>(state);
      check_pages("attention", pages, step, cos, sin, attention->heads);
      require(pages.kv_heads == attention->kv_heads && pages.head_dim == attention->head_dim,
              "attention: weights do not fit its heads");
      stores.emplace_back(pages.store());
    } else {
      const Slots& slots = *std::get<const Slots*>(state);
      check_slots("delta", slots, step, {delta->key_heads, delta->value_heads});
      stores.emplace_back(slots.store());
    }
  }
  require(stores.size() == states.size(), "run_layers: not one store of states for every layer");
  return stores;
}

}  // namespace

void bind_decoder_types(nb::module_& m) {
  nb::class_<Step>(m, "Step", "The sequences of one step.");
  m.def("make_step", &make_step, "starts"_a, "past_len"_a, "slots"_a, "page_table"_a, "capture_rows"_a,
        "capture_slots"_a, "journals"_a, "pending"_a, "defers"_a, "See ops.interface.StepBatch.");
  nb::class_<Pages>(m, "Pages", "Keys and values of one layer.");
  m.def("make_pages", &make_pages, "bits"_a, "num_pages"_a, "kv_heads"_a, "head_dim"_a, "keys"_a, "values"_a,
        "key_scales"_a, "value_scales"_a, "Arrays of num_pages kv_heads PAGE_TOKENS head_dim numbers of `bits` bits.");
  nb::class_<Slots>(m, "Slots", "Recurrent states of one layer.");
  m.def("make_slots", &make_slots, "tails"_a, "states"_a, "journals"_a,
        "tails [slots CONV_WIDTH-1 C], states [slots Hv tiles*DELTA_HEAD_DIM STATE_TILE], journals [J JOURNAL_ROWS "
        "journal_row_floats].");
  m.def(
      "journal_row_floats",
      [](int64_t key_heads, int64_t value_heads) { return JournalRow(key_heads, value_heads).floats(); }, "key_heads"_a,
      "value_heads"_a, "Numbers in one row of a journal.");
  nb::class_<Layers>(m, "Layers", "Mixers and feed-forward networks, to be run in the order in which they were added.")
      .def(nb::init<>())
      .def("add_attention", &Layers::add_attention, "norm"_a, "eps"_a, "inputs"_a, "out"_a, "query_norm"_a,
           "key_norm"_a, "heads"_a, "inputs: query with gate, key, value.")
      .def("add_delta", &Layers::add_delta, "norm"_a, "eps"_a, "inputs"_a, "out"_a, "conv"_a, "a"_a, "dt_bias"_a,
           "small_norm"_a, "inputs: qkv, z, beta, alpha.")
      .def("add_mlp", &Layers::add_mlp, "norm"_a, "eps"_a, "gate"_a, "up"_a, "down"_a)
      .def("add_experts", &Layers::add_experts, "norm"_a, "eps"_a, "router"_a, "gate"_a, "up"_a, "down"_a,
           "shared_router"_a, "shared_gate"_a, "shared_up"_a, "shared_down"_a, "num_active"_a);
}

void bind_decoder(nb::class_<Cpu>& cpu) {
  cpu.def("gated_mlp", &Timed<&gated_mlp>::call, "h"_a, "x"_a, "gate"_a, "up"_a, "down"_a, "norm"_a = nb::none(),
          "eps"_a = 0.0f, "h [T D] += down (silu(gate x) * up x), x [T D] behind a norm [D] if there is one.")
      .def("routed_experts", &Timed<&routed_experts>::call, "h"_a, "x"_a, "router"_a, "gate"_a, "up"_a, "down"_a,
           "shared_router"_a, "shared_gate"_a, "shared_up"_a, "shared_down"_a, "num_active"_a, "norm"_a = nb::none(),
           "eps"_a = 0.0f, "The same with the experts that the router picks for each row, and the shared one.")
      .def("gated_delta", &Timed<&gated_delta>::call, "qkv"_a, "z"_a, "beta"_a, "alpha"_a, "conv"_a, "a"_a, "dt_bias"_a,
           "norm"_a, "slots"_a, "step"_a, "eps"_a, "See ops.interface.Ops -> [T Hv*DELTA_HEAD_DIM].")
      .def("gated_attention", &Timed<&gated_attention>::call, "query_gate"_a, "key"_a, "value"_a, "query_norm"_a,
           "key_norm"_a, "cos"_a, "sin"_a, "pages"_a, "step"_a, "heads"_a, "eps"_a,
           "See ops.interface.Ops -> [T H*head_dim].")
      .def(
          "run_layers",
          [](Cpu& cpu, InOut<float, 2> h, const Layers& layers, const std::vector<State>& states, In<float, 2> cos,
             In<float, 2> sin, const Step& step) {
            const OperationTimer timer(cpu);
            for (const Block& block : layers.blocks)
              check("run_layers", "h", h, {{"T", step.rows()}, {"D", width_of(block)}});
            const std::vector<MixerStore> stores = checked_stores(layers, states, cos, sin, step);
            const DecoderStep decoder_step{step.arrays(), cos.data(), sin.data(), static_cast<int>(2 * cos.shape(1))};
            nb::gil_scoped_release release;
            loqal::run_layers(cpu, h.data(), layers.blocks, stores, decoder_step);
          },
          "h"_a, "layers"_a, "states"_a, "cos"_a, "sin"_a, "step"_a,
          "h [T D] through all layers, in place; `states` has the pages or slots of every layer.");
}

}  // namespace loqal::python
