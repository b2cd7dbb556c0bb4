// The vision tower's operations: threads, cuts, tiles and instruction sets must give the same bits.
#include <algorithm>
#include <string>

#include "layouts/pack.h"
#include "ops/linear.h"
#include "ops/vision.h"
#include "support.h"

namespace loqal::tests {
namespace {

std::vector<float> part(const std::vector<float>& all, int64_t first, int64_t count) {
  return {all.begin() + first, all.begin() + first + count};
}

void float_tiles_program(const KernelTable& table, int layout, Record& record) {
  constexpr int64_t kRowsIn = 61, kInputs = 200, kOutputs = 53;  // blocks of inputs, tiles and panels that end early
  Random random(700);
  const std::vector<float> x = random.normals(kRowsIn * kInputs);
  const std::vector<uint8_t> file = random_file(static_cast<Layout>(layout), kOutputs, kInputs, random);
  const auto product = [&](int threads, int64_t first, int64_t rows, bool add) {
    Cpu cpu(&table, threads);
    Weight weight(allocate(cpu, static_cast<Layout>(layout), 1, kOutputs, kInputs));
    pack_weight(cpu, weight, file.data());
    std::vector<float> y(static_cast<size_t>(rows * kOutputs), 0.5f);
    linear(cpu, x.data() + first * kInputs, rows, kInputs, {{&weight, 0, y.data(), add}});
    return y;
  };
  const std::string what = std::string(table.name) + " float tiles";
  for (const bool add : {false, true}) {
    const std::vector<float> whole = product(1, 0, kRowsIn, add);
    expect_same(product(2, 0, kRowsIn, add), whole, what + " on two threads");
    for (const int64_t row : {0, 11, 12, 60})
      expect_same(product(1, row, 1, add), part(whole, row * kOutputs, kOutputs), what + ": a row alone");
    record.add(whole);
  }
}

void norms_program(const KernelTable& table, int, Record& record) {
  Random random(710);
  for (const int64_t width : {1, 15, 16, 100, 144}) {
    const std::vector<float> weight = random.normals(width), bias = random.normals(width);
    std::vector<float> x = random.normals(40 * width, 3.0f), y(x.size());
    Cpu cpu(&table, 2);
    layer_norm(cpu, x.data(), weight.data(), bias.data(), y.data(), 40, width, 1e-6f);
    record.add(y);
    add_bias(cpu, y.data(), bias.data(), 40, width);
    record.add(y);
    for (const bool exact : {false, true}) {
      std::vector<float> activated = x;
      for (size_t i = 0; i < activated.size(); i += 9) activated[i] *= 8.0f;
      gelu(cpu, activated.data(), static_cast<int64_t>(activated.size()), exact);
      record.add(activated);
    }
  }
}

void attention_program(const KernelTable& table, int dim, Record& record) {
  constexpr int64_t kPatches = 530;  // more than a span
  constexpr int kHeads = 2;
  Random random(720);
  const int64_t width = kHeads * dim;
  const std::vector<float> qkv = random.normals(kPatches * 3 * width);
  std::vector<float> cos = random.normals(kPatches * dim / 2), sin = random.normals(kPatches * dim / 2);
  const auto attended = [&](int threads, const std::vector<int64_t>& cuts) {
    Cpu cpu(&table, threads);
    VisionPack pack(kPatches, kHeads, dim, table.float_columns);
    pack_heads(cpu, qkv.data(), cos.data(), sin.data(), pack);
    std::vector<float> out(static_cast<size_t>(kPatches * width));
    int64_t start = 0;
    for (const int64_t end : cuts) {
      vision_attention(cpu, pack, start, end, out.data() + start * width);
      start = end;
    }
    return out;
  };
  const std::vector<float> whole = attended(1, {kPatches});
  const std::string what = std::string(table.name) + " vision attention";
  expect_same(attended(2, {kPatches}), whole, what + " on two threads");
  expect_same(attended(1, {1, 48, 49, 300, kPatches}), whole, what + " in slices");
  record.add(whole);
}

}  // namespace

std::vector<Program> vision_programs() {
  return {{"vision/float_tiles/F32", float_tiles_program, static_cast<int>(Layout::F32)},
          {"vision/float_tiles/F16", float_tiles_program, static_cast<int>(Layout::F16)},
          {"vision/float_tiles/BF16", float_tiles_program, static_cast<int>(Layout::BF16)},
          {"vision/norms", norms_program},
          {"vision/attention/24", attention_program, 24},
          {"vision/attention/72", attention_program, 72}};
}

}  // namespace loqal::tests
