// Whole layers without Python: steps through the decoder must give the same bits as their operations called one by one,
// on any number of threads and with any instruction set.
#include <algorithm>
#include <memory>

#include "decoder/layers.h"
#include "support.h"

namespace loqal::tests {
namespace {

constexpr int64_t kWidth = 256, kInner = 256, kExperts = 4;
constexpr int kHeads = 3, kKvHeads = 1, kHeadDim = 64, kRotaryDim = 32;
constexpr int kKeyHeads = 1, kValueHeads = 2;
constexpr int64_t kChannels = (2 * kKeyHeads + kValueHeads) * kDeltaHeadDim;
constexpr int64_t kSequences = 2, kTokens = 70, kPages = 2;  // of the longer sequence: more than one page

FloatsRef floats(std::vector<float> values) {
  const auto owner = std::make_shared<std::vector<float>>(std::move(values));
  return {owner, owner->data()};
}

// Four blocks: both mixers and both kinds of network.
std::vector<Block> random_blocks(Cpu& cpu) {
  uint64_t seed = 800;
  Random random(seed);
  const auto weight = [&](Layout layout, int64_t rows, int64_t inputs, int64_t experts = 1) {
    return WeightRef(random_weight(cpu, layout, experts, rows, inputs, ++seed));
  };
  const auto norm = [&](int64_t n) {
    std::vector<float> values = random.normals(n, 0.2f);
    for (float& x : values) x += 1.0f;
    return floats(std::move(values));
  };
  const int64_t value_width = kValueHeads * kDeltaHeadDim, query_width = kHeads * kHeadDim,
                kv_width = kKvHeads * kHeadDim;
  return {
      {norm(kWidth), 1e-6f,
       DeltaMixer{weight(Layout::Q4_K, kChannels, kWidth), weight(Layout::Q6_K, value_width, kWidth),
                  weight(Layout::F32, kValueHeads, kWidth), weight(Layout::BF16, kValueHeads, kWidth),
                  weight(Layout::Q8_0, kWidth, value_width), floats(random.normals(4 * kChannels, 0.5f)),
                  floats({-0.1f, -2.0f}), floats(random.normals(kValueHeads)), norm(kDeltaHeadDim), kKeyHeads,
                  kValueHeads}},
      {norm(kWidth), 1e-6f,
       DenseMlp{weight(Layout::Q5_K, kInner, kWidth), weight(Layout::Q4_0, kInner, kWidth),
                weight(Layout::Q6_K, kWidth, kInner)}},
      {norm(kWidth), 1e-6f,
       AttentionMixer{weight(Layout::Q4_K, 2 * query_width, kWidth), weight(Layout::Q8_0, kv_width, kWidth),
                      weight(Layout::F16, kv_width, kWidth), weight(Layout::F16, kWidth, query_width), norm(kHeadDim),
                      norm(kHeadDim), kHeads, kKvHeads, kHeadDim}},
      {norm(kWidth), 1e-6f,
       ExpertsMlp{weight(Layout::F32, kExperts, kWidth), weight(Layout::Q4_K, kInner, kWidth, kExperts),
                  weight(Layout::Q4_K, kInner, kWidth, kExperts), weight(Layout::Q8_0, kWidth, kInner, kExperts),
                  weight(Layout::F32, 1, kWidth), weight(Layout::Q8_0, kInner, kWidth),
                  weight(Layout::Q8_0, kInner, kWidth), weight(Layout::Q8_0, kWidth, kInner), 2}},
  };
}

// What both mixers keep for all sequences.
struct Stores {
  std::vector<float> tails = std::vector<float>(kSequences * 3 * kChannels);
  std::vector<float> states = std::vector<float>(kSequences * kValueHeads * kDeltaHeadDim * kDeltaHeadDim);
  std::vector<uint16_t> keys = std::vector<uint16_t>(kSequences * kPages * kKvHeads * kPage * kHeadDim);
  std::vector<uint16_t> values = keys;

  DeltaStore delta() { return {tails.data(), states.data(), nullptr}; }
  KvStore kv() { return {16, keys.data(), values.data(), nullptr, nullptr}; }
};

// Sequence 0 has one token of every step, the other one the rest.
struct Step {
  std::vector<int32_t> starts, past_len, slots{1, 0}, page_table{3, 0, 2, 1};
  std::vector<float> cos, sin;

  Step(int64_t rows, std::vector<int32_t> past) : starts{0, 1, static_cast<int32_t>(rows)}, past_len(std::move(past)) {
    Random random(810);  // of a table by position, so that cutting a sequence changes no angle
    const std::vector<float> all = random.normals(2 * kTokens * kRotaryDim / 2);
    for (int64_t row = 0; row < rows; ++row) {
      const int64_t position = row == 0 ? past_len[0] : past_len[1] + row - 1;
      for (int64_t i = 0; i < kRotaryDim / 2; ++i) {
        cos.push_back(all[static_cast<size_t>(2 * (position * kRotaryDim / 2 + i))]);
        sin.push_back(all[static_cast<size_t>(2 * (position * kRotaryDim / 2 + i) + 1)]);
      }
    }
  }
  DecoderStep view() const {
    return {{starts.data(), past_len.data(), slots.data(), page_table.data(), nullptr, nullptr, kSequences, kPages, 0},
            cos.data(),
            sin.data(),
            kRotaryDim};
  }
};

std::vector<float> behind_norm(Cpu& cpu, const std::vector<float>& h, const Block& block) {
  std::vector<float> out(h.size());
  rms_norm(cpu, h.data(), block.norm.get(), out.data(), static_cast<int64_t>(h.size()) / kWidth, kWidth, block.eps);
  return out;
}

std::vector<float> product(Cpu& cpu, const std::vector<float>& x, const Weight& weight) {
  const int64_t rows = static_cast<int64_t>(x.size()) / weight.inputs;
  std::vector<float> y(static_cast<size_t>(rows * weight.rows));
  linear(cpu, x.data(), rows, weight.inputs, {{&weight, 0, y.data(), false}});
  return y;
}

void add_product(Cpu& cpu, std::vector<float>& h, const std::vector<float>& x, const Weight& weight) {
  linear(cpu, x.data(), static_cast<int64_t>(h.size()) / kWidth, weight.inputs, {{&weight, 0, h.data(), true}});
}

// The operations one by one, as src/loqal/ops/layers.py has them.
void run_one_by_one(Cpu& cpu, std::vector<float>& h, const std::vector<Block>& blocks, Stores& stores,
                    const DecoderStep& step) {
  const int64_t rows = static_cast<int64_t>(h.size()) / kWidth;
  {
    const auto& m = std::get<DeltaMixer>(blocks[0].part);
    const std::vector<float> x = behind_norm(cpu, h, blocks[0]);
    const std::vector<float> qkv = product(cpu, x, *m.qkv), z = product(cpu, x, *m.z), beta = product(cpu, x, *m.beta),
                             alpha = product(cpu, x, *m.alpha);
    std::vector<float> out(z.size());
    gated_delta(cpu,
                {qkv.data(), z.data(), beta.data(), alpha.data(), m.conv.get(), m.a.get(), m.dt_bias.get(),
                 m.norm.get(), stores.tails.data(), stores.states.data(), out.data(), kKeyHeads, kValueHeads, 1e-6f},
                step.sequences);
    add_product(cpu, h, out, *m.out);
  }
  {
    const auto& m = std::get<DenseMlp>(blocks[1].part);
    gated_mlp(cpu, h.data(), behind_norm(cpu, h, blocks[1]).data(), rows, *m.gate, *m.up, *m.down);
  }
  {
    const auto& m = std::get<AttentionMixer>(blocks[2].part);
    const std::vector<float> x = behind_norm(cpu, h, blocks[2]);
    const std::vector<float> query_gate = product(cpu, x, *m.query_gate), key = product(cpu, x, *m.key),
                             value = product(cpu, x, *m.value);
    std::vector<float> out(static_cast<size_t>(rows * kHeads * kHeadDim));
    gated_attention(cpu,
                    {query_gate.data(),
                     key.data(),
                     value.data(),
                     m.query_norm.get(),
                     m.key_norm.get(),
                     step.cos,
                     step.sin,
                     stores.kv(),
                     out.data(),
                     {kHeads, kKvHeads, kHeadDim, kRotaryDim, 1e-6f}},
                    step.sequences);
    add_product(cpu, h, out, *m.out);
  }
  const auto& m = std::get<ExpertsMlp>(blocks[3].part);
  routed_experts(cpu, h.data(), behind_norm(cpu, h, blocks[3]).data(), rows,
                 {m.router.get(), m.gate.get(), m.up.get(), m.down.get(), m.shared_router.get(), m.shared_gate.get(),
                  m.shared_up.get(), m.shared_down.get(), m.num_active});
}

// The rows after a step of all tokens but the last of each sequence, then after a step of one token each.
std::vector<float> run(const KernelTable& table, int threads, bool one_by_one, Stores& stores) {
  Cpu cpu(&table, threads);
  const std::vector<Block> blocks = random_blocks(cpu);
  Random random(820);
  std::vector<float> all;
  int32_t past = 0;
  for (const int64_t rows : {kTokens, int64_t{2}}) {
    const Step step(rows, {past ? 1 : 0, past});
    std::vector<float> h = random.normals(rows * kWidth);
    if (one_by_one) run_one_by_one(cpu, h, blocks, stores, step.view());
    else run_layers(cpu, h.data(), blocks, {stores.delta(), stores.kv()}, step.view());
    all.insert(all.end(), h.begin(), h.end());
    past = static_cast<int32_t>(kTokens - 1);
  }
  return all;
}

void expect_same_stores(const Stores& actual, const Stores& expected, const std::string& what) {
  expect_same(actual.tails, expected.tails, what + ": tails");
  expect_same(actual.states, expected.states, what + ": states");
  expect_same(actual.keys, expected.keys, what + ": keys");
  expect_same(actual.values, expected.values, what + ": values");
}

void layers_program(const KernelTable& table, int, Record& record) {
  Stores expected_stores;
  const std::vector<float> expected = run(table, 1, true, expected_stores);
  for (const int threads : {1, 2, 3}) {
    Stores stores;
    const std::string what = std::string(table.name) + " layers on " + std::to_string(threads) + " threads";
    expect_same(run(table, threads, false, stores), expected, what + " differ from their operations");
    expect_same_stores(stores, expected_stores, what);
  }
  record.add(expected);
  record.add(expected_stores.tails);
  record.add(expected_stores.states);
  record.add(expected_stores.keys);
  record.add(expected_stores.values);
}

// A weight lives as long as the blocks made of it.
void ownership_program(const KernelTable& table, int, Record&) {
  Cpu cpu(&table, 1);
  std::weak_ptr<const Weight> weight;
  {
    const std::vector<Block> blocks = random_blocks(cpu);
    weight = std::get<DenseMlp>(blocks[1].part).gate;
    expect(!weight.expired(), "decoder: a weight is gone while a block needs it");
  }
  expect(weight.expired(), "decoder: a weight outlives its block");
}

}  // namespace

std::vector<Program> decoder_programs() {
  return {{"decoder/layers", layers_program}, {"decoder/ownership", ownership_program}};
}

}  // namespace loqal::tests
