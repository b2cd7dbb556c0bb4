// Gated DeltaNet and gated attention, one kernel call at a time.
#include <algorithm>
#include <cstddef>

#include "support.h"

namespace loqal::tests {
namespace {

constexpr int kKeyHeads = 1, kValueHeads = 2, kChannels = (2 * kKeyHeads + kValueHeads) * kDeltaHeadDim;
constexpr int kValueWidth = kValueHeads * kDeltaHeadDim;

struct DeltaInputs {
  std::vector<float> qkv, z, beta, alpha, conv, a, dt_bias, norm, tail, state;

  DeltaInputs(int tokens, Random& random)
      : qkv(random.normals(tokens * kChannels)),
        z(random.normals(tokens * kValueWidth)),
        beta(random.normals(tokens * kValueHeads)),
        alpha(random.normals(tokens * kValueHeads)),
        conv(random.normals(4 * kChannels, 0.5f)),
        a{-0.05f, -6.0f},  // the second head forgets within a few tokens: what it keeps becomes subnormal
        dt_bias(random.normals(kValueHeads)),
        norm(random.normals(kDeltaHeadDim)),
        tail(random.normals(3 * kChannels)),
        state(random.normals(kValueHeads * kDeltaHeadDim * kDeltaHeadDim, 0.1f)) {}
};

struct DeltaOutputs {
  std::vector<float> out, tail, state;
};

// The tokens in stretches of the given lengths, the last of which repeats.
DeltaOutputs run_delta(const KernelTable& table, const DeltaInputs& in, int tokens, std::vector<int> stretches) {
  DeltaOutputs result{std::vector<float>(static_cast<size_t>(tokens * kValueWidth)), in.tail, in.state};
  size_t next = 0;
  for (int first = 0; first < tokens;) {
    const int n = std::min(stretches[std::min(next++, stretches.size() - 1)], tokens - first);
    DeltaTask task{};
    task.qkv = in.qkv.data() + first * kChannels;
    task.z = in.z.data() + first * kValueWidth;
    task.beta = in.beta.data() + first * kValueHeads;
    task.alpha = in.alpha.data() + first * kValueHeads;
    task.conv = in.conv.data();
    task.a = in.a.data();
    task.dt_bias = in.dt_bias.data();
    task.norm = in.norm.data();
    task.out = result.out.data() + first * kValueWidth;
    task.tail = result.tail.data();
    task.state = result.state.data();
    task.num_tokens = n;
    task.key_heads = kKeyHeads;
    task.value_heads = kValueHeads;
    task.eps = 1e-6f;
    for (task.key_head = 0; task.key_head < kKeyHeads; ++task.key_head) table.delta(task);
    first += n;
  }
  return result;
}

void delta_program(const KernelTable& table, int, Record& record) {
  constexpr int kTokens = 70;
  Random random(400);
  const DeltaInputs in(kTokens, random);
  const DeltaOutputs whole = run_delta(table, in, kTokens, {kTokens});
  const std::vector<std::vector<int>> cuts = {{1}, {2, 3}, {31}, {32}, {33}, {64, 1}};
  for (const std::vector<int>& cut : cuts) {
    const DeltaOutputs part = run_delta(table, in, kTokens, cut);
    const std::string what = std::string(table.name) + " delta in stretches of " + std::to_string(cut[0]);
    expect_same(part.out, whole.out, what + ": outputs differ");
    expect_same(part.tail, whole.tail, what + ": tails differ");
    expect_same(part.state, whole.state, what + ": states differ");
  }
  record.add(whole.out);
  record.add(whole.tail);
  record.add(whole.state);
}

// One layer's store whose unwritten positions hold `filler`.
struct Store {
  std::vector<uint64_t> keys, values;  // of 64 bits for their alignment only
  std::vector<uint16_t> key_scales, value_scales;
  int bits;

  Store(int store_bits, int64_t numbers, uint8_t filler)
      : keys(static_cast<size_t>(numbers * store_bits / 64), filler * 0x0101010101010101u),
        values(keys),
        key_scales(store_bits == 8 ? static_cast<size_t>(numbers / kKvBlock) : 0, uint16_t(filler * 0x0101u)),
        value_scales(key_scales),
        bits(store_bits) {}
  KvStore view() { return {bits, keys.data(), values.data(), key_scales.data(), value_scales.data()}; }
};

struct AttentionCase {
  AttentionShape shape;
  std::vector<int> lengths;  // numbers of keys to attend to, ascending
};

// Writes key after key and, at every length wanted, attends from the last one.
std::vector<float> run_attention(const KernelTable& table, const AttentionCase& c, int bits, uint8_t filler) {
  const AttentionShape& s = c.shape;
  const int group = s.heads / s.kv_heads, half = s.rotary_dim / 2, last = c.lengths.back();
  const int pages = (last + kPage - 1) / kPage;
  Random random(500 + static_cast<uint64_t>(s.head_dim));
  Store store(bits, static_cast<int64_t>(pages) * s.kv_heads * kPage * s.head_dim, filler);
  const std::vector<int32_t> page_table = random.permutation(pages);
  const std::vector<float> norm = random.normals(s.head_dim), query = random.normals(s.heads * s.head_dim, 2.0f);
  const std::vector<float> gate = random.normals(s.head_dim);
  std::vector<float> result;
  for (int position = 0; position < last; ++position) {
    const std::vector<float> cos = random.normals(half), sin = random.normals(half);
    for (int h = 0; h < s.kv_heads; ++h) {
      const std::vector<float> key = random.normals(s.head_dim, 2.0f), value = random.normals(s.head_dim);
      table.store_key_value(key.data(), norm.data(), cos.data(), sin.data(), value.data(), store.view(),
                            page_table[static_cast<size_t>(position / kPage)], position % kPage, h, s);
    }
    if (!std::binary_search(c.lengths.begin(), c.lengths.end(), position + 1)) continue;
    for (int kv_head = 0; kv_head < s.kv_heads; ++kv_head) {
      const auto width = static_cast<size_t>(group * s.head_dim);
      std::vector<float> rotated(width), total_sums(width), sums(width), out(static_cast<size_t>(s.head_dim));
      for (int g = 0; g < group; ++g)
        table.prepare_query(query.data() + (kv_head * group + g) * s.head_dim, norm.data(), cos.data(), sin.data(),
                            rotated.data() + g * s.head_dim, s);
      std::vector<SoftmaxPartial> total(static_cast<size_t>(group)), partial(total.size());
      const AttentionTask task{rotated.data(), 0,     1,       store.view(), page_table.data(),
                               position,       group, kv_head, s.kv_heads,   s.head_dim};
      table.attend_span(task, 0, total.data(), total_sums.data());
      for (int64_t span = 1; span <= position / kSpan; ++span) {
        table.attend_span(task, span, partial.data(), sums.data());
        for (int g = 0; g < group; ++g)
          table.merge(total[static_cast<size_t>(g)], total_sums.data() + g * s.head_dim,
                      partial[static_cast<size_t>(g)], sums.data() + g * s.head_dim, s.head_dim);
      }
      for (int g = 0; g < group; ++g) {
        const SoftmaxPartial& p = total[static_cast<size_t>(g)];
        table.finish(p, total_sums.data() + g * s.head_dim, gate.data(), out.data(), s.head_dim);
        result.insert(result.end(), {p.top, p.weight});
        result.insert(result.end(), out.begin(), out.end());
      }
    }
  }
  return result;
}

void attention_program(const KernelTable& table, int bits, Record& record) {
  const AttentionCase cases[] = {
      {{6, 1, 64, 32, 1e-6f}, {1, 2, 15, 16, 17, 63, 64, 65, 129, 511, 512, 513, 1023, 1024, 1025, 1500}},
      {{8, 2, 256, 64, 1e-6f}, {3, 100}},
  };
  for (const AttentionCase& c : cases) {
    const std::vector<float> result = run_attention(table, c, bits, 0);
    const std::vector<float> stale = run_attention(table, c, bits, 0xff);  // NaN as floats, as halves and as scales
    expect_same(stale, result, std::string(table.name) + " attention reads positions that were never written");
    record.add(result);
  }
}

}  // namespace

std::vector<Program> mixer_programs() {
  return {{"delta", delta_program},
          {"attention/8", attention_program, 8},
          {"attention/16", attention_program, 16},
          {"attention/32", attention_program, 32}};
}

}  // namespace loqal::tests
