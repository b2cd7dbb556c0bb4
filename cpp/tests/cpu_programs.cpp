// The operations of class Cpu: one, two or three threads, a row alone and in a batch, and sequences cut into steps
// must give the same bits.
#include <algorithm>

#include "ops/attention.h"
#include "ops/delta.h"
#include "ops/experts.h"
#include "ops/linear.h"
#include "ops/mlp.h"
#include "ops/rope.h"
#include "support.h"

namespace loqal::tests {
namespace {

// Runs the operation on one thread, then on two: the results must be the same. Records and returns them.
template <class Operation>
std::vector<float> on_two_threads(const KernelTable& table, const std::string& name, Record& record,
                                  Operation operation) {
  Cpu one(&table, 1);
  const std::vector<float> expected = operation(one);
  Cpu two(&table, 2);
  expect_same(operation(two), expected, std::string(table.name) + " " + name + " differs on two threads");
  record.add(expected);
  return expected;
}

void append(std::vector<float>& to, const std::vector<float>& more) { to.insert(to.end(), more.begin(), more.end()); }

void linear_program(const KernelTable& table, int, Record& record) {
  constexpr int64_t kRowsIn = 131, kInputs = 256;  // more rows than one tile holds
  Random random(600);
  const std::vector<float> x = random.normals(kRowsIn * kInputs);
  const auto products = [&](Cpu& cpu, int64_t first, int64_t rows) {
    const auto a = random_weight(cpu, Layout::Q4_K, 1, 37, kInputs, 601);
    const auto b = random_weight(cpu, Layout::F16, 2, 20, kInputs, 602);
    const auto c = random_weight(cpu, Layout::I8, 1, 16, kInputs, 603);
    std::vector<float> ya(static_cast<size_t>(rows * 37)), yb(static_cast<size_t>(rows * 20));
    std::vector<float> yc(static_cast<size_t>(rows * 16), 0.25f), out;
    linear(cpu, x.data() + first * kInputs, rows, kInputs,
           {{a.get(), 0, ya.data(), false}, {b.get(), 1, yb.data(), false}, {c.get(), 0, yc.data(), true}});
    for (const auto* y : {&ya, &yb, &yc}) append(out, *y);
    return out;
  };
  const std::vector<float> whole =
      on_two_threads(table, "linear", record, [&](Cpu& cpu) { return products(cpu, 0, kRowsIn); });
  Cpu cpu(&table, 3);
  for (const int64_t row : {0, 1, 77, 127, 128, 130}) {
    const std::vector<float> alone = products(cpu, row, 1);
    const std::string what = std::string(table.name) + " linear: a row is not what it is alone";
    expect_same(alone.data(), whole.data() + row * 37, 37, what);
    expect_same(alone.data() + 37, whole.data() + kRowsIn * 37 + row * 20, 20, what);
    expect_same(alone.data() + 57, whole.data() + kRowsIn * 57 + row * 16, 16, what);
  }
}

void rows_program(const KernelTable& table, int, Record& record) {
  constexpr int64_t kTokens = 600, kWidth = 100;  // enough for several tasks
  Random random(610);
  const std::vector<float> x = random.normals(kTokens * kWidth), norm = random.normals(kWidth);
  std::vector<int32_t> ids(kTokens);
  for (int32_t& id : ids) id = random.below(50);
  on_two_threads(table, "embed and rms_norm", record, [&](Cpu& cpu) {
    const auto weight = random_weight(cpu, Layout::Q6_K, 1, 50, 256, 611);
    std::vector<float> out(kTokens * kWidth), embedded(kTokens * 256);
    rms_norm(cpu, x.data(), norm.data(), out.data(), kTokens, kWidth, 1e-6f);
    embed(cpu, *weight, ids.data(), kTokens, embedded.data());
    append(out, embedded);
    return out;
  });
}

void gated_mlp_program(const KernelTable& table, int, Record& record) {
  constexpr int64_t kRowsIn = 19, kWidth = 256, kInner = 512;
  Random random(620);
  const std::vector<float> h = random.normals(kRowsIn * kWidth), x = random.normals(kRowsIn * kWidth);
  const auto mlp = [&](Cpu& cpu, int64_t first, int64_t rows) {
    const auto gate = random_weight(cpu, Layout::Q5_K, 2, kInner, kWidth, 621);
    const auto up = random_weight(cpu, Layout::BF16, 2, kInner, kWidth, 622);
    const auto down = random_weight(cpu, Layout::Q8_0, 2, kWidth, kInner, 623);
    std::vector<float> out(h.begin() + first * kWidth, h.begin() + (first + rows) * kWidth);
    const auto second = [](const Weight& w) { return Weight(w.layout, 1, w.rows, w.inputs, w.panel(1, 0), w.owner); };
    gated_mlp(cpu, out.data(), x.data() + first * kWidth, rows, second(*gate), second(*up), second(*down));
    return out;
  };
  const std::vector<float> whole =
      on_two_threads(table, "gated_mlp", record, [&](Cpu& cpu) { return mlp(cpu, 0, kRowsIn); });
  Cpu cpu(&table, 3);
  for (const int64_t row : {0, 8, 18})
    expect_same(mlp(cpu, row, 1).data(), whole.data() + row * kWidth, kWidth,
                std::string(table.name) + " gated_mlp: a row is not what it is alone");
}

// Float weights: many rows go through tiles, few do not.
void float_mlp_program(const KernelTable& table, int layout, Record& record) {
  constexpr int64_t kRowsIn = 103, kWidth = 200, kInner = 213, kOut = 53;
  Random random(624);
  const std::vector<float> h = random.normals(kRowsIn * kOut), x = random.normals(kRowsIn * kWidth);
  const auto mlp = [&](Cpu& cpu, int64_t first, int64_t rows) {
    const auto gate = random_weight(cpu, static_cast<Layout>(layout), 1, kInner, kWidth, 625);
    const auto up = random_weight(cpu, Layout::F16, 1, kInner, kWidth, 626);
    const auto down = random_weight(cpu, Layout::F32, 1, kOut, kInner, 627);
    std::vector<float> out(h.begin() + first * kOut, h.begin() + (first + rows) * kOut);
    gated_mlp(cpu, out.data(), x.data() + first * kWidth, rows, *gate, *up, *down);
    return out;
  };
  const std::vector<float> whole =
      on_two_threads(table, "gated_mlp of floats", record, [&](Cpu& cpu) { return mlp(cpu, 0, kRowsIn); });
  Cpu cpu(&table, 3);
  for (const int64_t first : {0, 20, 60, 82})
    for (const int64_t rows : {1, 12, 21})
      expect_same(mlp(cpu, first, rows).data(), whole.data() + first * kOut, static_cast<size_t>(rows * kOut),
                  std::string(table.name) + " gated_mlp of floats: rows are not what they are alone");
}

void routed_experts_program(const KernelTable& table, int layout, Record& record) {
  constexpr int64_t kRowsIn = 40, kWidth = 256, kInner = 256, kShared = 512, kExperts = 7, kActive = 3;
  const auto format = static_cast<Layout>(layout);
  Random random(660);
  const std::vector<float> h = random.normals(kRowsIn * kWidth), x = random.normals(kRowsIn * kWidth);
  const auto experts = [&](Cpu& cpu, int64_t first, int64_t rows) {
    const auto router = random_weight(cpu, Layout::F32, 1, kExperts, kWidth, 661);
    const auto gate = random_weight(cpu, format, kExperts, kInner, kWidth, 662);
    const auto up = random_weight(cpu, format, kExperts, kInner, kWidth, 663);
    const auto down = random_weight(cpu, Layout::Q6_K, kExperts, kWidth, kInner, 664);
    const auto shared_router = random_weight(cpu, Layout::BF16, 1, 1, kWidth, 665);
    const auto shared_gate = random_weight(cpu, Layout::Q8_0, 1, kShared, kWidth, 666);
    const auto shared_up = random_weight(cpu, format, 1, kShared, kWidth, 667);
    const auto shared_down = random_weight(cpu, Layout::F16, 1, kWidth, kShared, 668);
    std::vector<float> out(h.begin() + first * kWidth, h.begin() + (first + rows) * kWidth);
    routed_experts(cpu, out.data(), x.data() + first * kWidth, rows,
                   {router.get(), gate.get(), up.get(), down.get(), shared_router.get(), shared_gate.get(),
                    shared_up.get(), shared_down.get(), kActive});
    return out;
  };
  const std::vector<float> whole =
      on_two_threads(table, "routed_experts", record, [&](Cpu& cpu) { return experts(cpu, 0, kRowsIn); });
  Cpu cpu(&table, 3);
  for (const auto& [first, rows] : {std::pair{0, 1}, {17, 1}, {39, 1}, {3, 30}})
    expect_same(experts(cpu, first, rows).data(), whole.data() + first * kWidth, static_cast<size_t>(rows * kWidth),
                std::string(table.name) + " routed_experts: a row is not what it is alone");
}

// Steps ---------------------------------------------------------------------------------------------------------------

// Three sequences that advance together, at most `most` tokens each a step.
struct Steps {
  std::vector<int> lengths;
  int pages_per_sequence = 0;
  std::vector<int32_t> page_table;

  struct Step {
    std::vector<int32_t> starts{0}, past_len, slots;
    std::vector<int64_t> rows;  // of the whole sequences, which lie behind each other
  };

  std::vector<Step> cut(int most) const {
    std::vector<Step> steps;
    for (int done = 0; done < *std::max_element(lengths.begin(), lengths.end()); done += most) {
      Step step;
      int64_t base = 0;
      for (size_t s = 0; s < lengths.size(); ++s) {
        const int past = std::min(done, lengths[s]), end = std::min(done + most, lengths[s]);
        for (int t = past; t < end; ++t) step.rows.push_back(base + t);
        step.starts.push_back(static_cast<int32_t>(step.rows.size()));
        step.past_len.push_back(past);
        step.slots.push_back(static_cast<int32_t>(lengths.size() - 1 - s));
        base += lengths[s];
      }
      steps.push_back(std::move(step));
    }
    return steps;
  }

  StepArrays arrays(const Step& step, const std::vector<int32_t>& capture_rows,
                    const std::vector<int32_t>& capture_slots) const {
    return {step.starts.data(),
            step.past_len.data(),
            step.slots.data(),
            page_table.data(),
            capture_rows.data(),
            capture_slots.data(),
            static_cast<int64_t>(lengths.size()),
            pages_per_sequence,
            static_cast<int64_t>(capture_rows.size())};
  }
};

std::vector<float> gather(const std::vector<float>& all, const std::vector<int64_t>& rows, int64_t width) {
  std::vector<float> out;
  for (const int64_t row : rows) out.insert(out.end(), all.begin() + row * width, all.begin() + (row + 1) * width);
  return out;
}
void scatter(const std::vector<float>& part, const std::vector<int64_t>& rows, int64_t width, std::vector<float>& all) {
  for (size_t i = 0; i < rows.size(); ++i)
    std::copy_n(part.begin() + static_cast<int64_t>(i) * width, width, all.begin() + rows[i] * width);
}

void gated_delta_program(const KernelTable& table, int, Record& record) {
  constexpr int kKeyHeads = 2, kValueHeads = 4, kChannels = (2 * kKeyHeads + kValueHeads) * kDeltaHeadDim;
  constexpr int64_t kValueWidth = kValueHeads * kDeltaHeadDim,
                    kStateFloats = kValueHeads * kDeltaHeadDim * kDeltaHeadDim;
  const Steps steps{{21, 1, 9}, 0, {}};
  constexpr int64_t kTokens = 31, kSlots = 5;
  Random random(630);
  const std::vector<float> qkv = random.normals(kTokens * kChannels), z = random.normals(kTokens * kValueWidth),
                           beta = random.normals(kTokens * kValueHeads), alpha = random.normals(kTokens * kValueHeads),
                           conv = random.normals(4 * kChannels, 0.5f), dt_bias = random.normals(kValueHeads),
                           norm = random.normals(kDeltaHeadDim), a{-0.1f, -1.0f, -0.01f, -8.0f};
  // Returns outputs, tails and states; `captures` keeps the state after two rows of the first step in slots 3 and 4.
  const auto delta = [&](Cpu& cpu, int most, bool captures) {
    std::vector<float> out(kTokens * kValueWidth), tails(kSlots * 3 * kChannels), states(kSlots * kStateFloats);
    for (const Steps::Step& step : steps.cut(most)) {
      const std::vector<float> q = gather(qkv, step.rows, kChannels), gate = gather(z, step.rows, kValueWidth),
                               b = gather(beta, step.rows, kValueHeads), al = gather(alpha, step.rows, kValueHeads);
      std::vector<float> part(step.rows.size() * kValueWidth);
      const std::vector<int32_t> capture_rows = captures ? std::vector<int32_t>{6, 24} : std::vector<int32_t>{};
      const DeltaArrays arrays{q.data(),    gate.data(),    b.data(),    al.data(),    conv.data(),
                               a.data(),    dt_bias.data(), norm.data(), tails.data(), states.data(),
                               part.data(), kKeyHeads,      kValueHeads, 1e-6f};
      gated_delta(cpu, arrays, steps.arrays(step, capture_rows, {3, 4}));
      scatter(part, step.rows, kValueWidth, out);
    }
    append(out, tails);
    append(out, states);
    return out;
  };
  const std::vector<float> whole =
      on_two_threads(table, "gated_delta", record, [&](Cpu& cpu) { return delta(cpu, 100, true); });
  Cpu cpu(&table, 3);
  const std::string name(table.name);
  const auto compare = [&](const std::vector<float>& cut, const std::string& what) {
    const int64_t tails = kTokens * kValueWidth, states = tails + kSlots * 3 * kChannels;
    expect_same(cut.data(), whole.data(), static_cast<size_t>(tails), what + ": outputs");
    expect_same(cut.data() + tails, whole.data() + tails, 3 * 3 * kChannels, what + ": tails");
    expect_same(cut.data() + states, whole.data() + states, static_cast<size_t>(3 * kStateFloats), what + ": states");
  };
  for (const int most : {1, 7, 20}) compare(delta(cpu, most, false), name + " gated_delta in steps");
  // Row 6 is the seventh token of the first sequence: with 7 tokens in all, its last state (slot 2) is the captured
  // one.
  const Steps::Step first = steps.cut(7).front();
  const std::vector<float> q = gather(qkv, first.rows, kChannels), gate = gather(z, first.rows, kValueWidth),
                           b = gather(beta, first.rows, kValueHeads), al = gather(alpha, first.rows, kValueHeads);
  std::vector<float> part(first.rows.size() * kValueWidth), tails(3 * 3 * kChannels), states(3 * kStateFloats);
  gated_delta(cpu,
              {q.data(), gate.data(), b.data(), al.data(), conv.data(), a.data(), dt_bias.data(), norm.data(),
               tails.data(), states.data(), part.data(), kKeyHeads, kValueHeads, 1e-6f},
              steps.arrays(first, {}, {}));
  const float* captured = whole.data() + kTokens * kValueWidth + kSlots * 3 * kChannels + 3 * kStateFloats;
  expect_same(states.data() + 2 * kStateFloats, captured, static_cast<size_t>(kStateFloats),
              name + " gated_delta: a capture is not the state after its row");
}

void gated_attention_program(const KernelTable& table, int bits, Record& record) {
  // Beyond one span with 16 bits; more heads, in groups, with the others.
  const bool wide = bits == 16;
  const int heads = wide ? 1 : 6, kv_heads = wide ? 1 : 2, most_tokens = wide ? 531 : 70;
  constexpr int kHeadDim = 64, kHalf = 16;
  const int64_t query_width = 2 * heads * kHeadDim, key_width = kv_heads * kHeadDim, out_width = heads * kHeadDim;
  Random random(640);
  Steps steps{{most_tokens, 1, 66}, 9, {}};
  steps.page_table = random.permutation(3 * 9);
  const int64_t tokens = most_tokens + 1 + 66, numbers = 27 * kv_heads * kPage * kHeadDim;
  const std::vector<float> query_gate = random.normals(tokens * query_width), key = random.normals(tokens * key_width),
                           value = random.normals(tokens * key_width), query_norm = random.normals(kHeadDim),
                           key_norm = random.normals(kHeadDim), cos = random.normals(tokens * kHalf),
                           sin = random.normals(tokens * kHalf);
  const auto attention = [&](Cpu& cpu, int most) {
    std::vector<float> out(static_cast<size_t>(tokens * out_width));
    std::vector<uint64_t> keys(static_cast<size_t>(numbers * bits / 64)), values(keys);
    std::vector<uint16_t> key_scales(bits == 8 ? static_cast<size_t>(numbers / kKvBlock) : 0), value_scales(key_scales);
    for (const Steps::Step& step : steps.cut(most)) {
      const std::vector<float> q = gather(query_gate, step.rows, query_width), k = gather(key, step.rows, key_width),
                               v = gather(value, step.rows, key_width), c = gather(cos, step.rows, kHalf),
                               s = gather(sin, step.rows, kHalf);
      std::vector<float> part(step.rows.size() * static_cast<size_t>(out_width));
      const AttentionArrays arrays{
          q.data(),        k.data(),
          v.data(),        query_norm.data(),
          key_norm.data(), c.data(),
          s.data(),        {bits, keys.data(), values.data(), key_scales.data(), value_scales.data()},
          part.data(),     {heads, kv_heads, kHeadDim, 2 * kHalf, 1e-6f}};
      gated_attention(cpu, arrays, steps.arrays(step, {}, {}));
      scatter(part, step.rows, out_width, out);
    }
    return out;
  };
  const std::string name = "gated_attention with " + std::to_string(bits) + " bits";
  const std::vector<float> whole = on_two_threads(table, name, record, [&](Cpu& cpu) { return attention(cpu, 1000); });
  Cpu cpu(&table, 3);
  for (const int most : {64, 500})
    expect_same(attention(cpu, most), whole, std::string(table.name) + " " + name + " in steps");
}

void rotary_program(const KernelTable& table, int, Record& record) {
  constexpr int64_t kTokens = 40, kPairs = 32;
  Random random(650);
  std::vector<int32_t> positions(3 * kTokens), axes(kPairs);
  std::vector<double> frequencies(kPairs);
  for (int32_t& p : positions) p = random.below(262144);
  for (int64_t i = 0; i < kPairs; ++i) {
    axes[static_cast<size_t>(i)] = static_cast<int32_t>(i % 3);
    frequencies[static_cast<size_t>(i)] = i ? frequencies[static_cast<size_t>(i - 1)] * 0.65 : 1.0;
  }
  on_two_threads(table, "rotary", record, [&](Cpu&) {
    std::vector<float> cos(kTokens * kPairs), sin(cos);
    rotary(positions.data(), kTokens, frequencies.data(), axes.data(), kPairs, 1.25, cos.data(), sin.data());
    append(cos, sin);
    return cos;
  });
}

}  // namespace

std::vector<Program> cpu_programs() {
  return {{"cpu/linear", linear_program},
          {"cpu/rows", rows_program},
          {"cpu/gated_mlp", gated_mlp_program},
          {"cpu/float_mlp/F32", float_mlp_program, static_cast<int>(Layout::F32)},
          {"cpu/float_mlp/BF16", float_mlp_program, static_cast<int>(Layout::BF16)},
          {"cpu/routed_experts/Q4_K", routed_experts_program, static_cast<int>(Layout::Q4_K)},
          {"cpu/routed_experts/BF16", routed_experts_program, static_cast<int>(Layout::BF16)},
          {"cpu/gated_delta", gated_delta_program},
          {"cpu/gated_attention/8", gated_attention_program, 8},
          {"cpu/gated_attention/16", gated_attention_program, 16},
          {"cpu/gated_attention/32", gated_attention_program, 32},
          {"cpu/rotary", rotary_program}};
}

}  // namespace loqal::tests
