// The encoders: the same bytes and the same errors on any number of threads and with every instruction set, and the
// errors are those of what the kernels read back.
#include <algorithm>
#include <cmath>

#include "base/float16.h"
#include "base/threads.h"
#include "encode/encode.h"
#include "layouts/pack.h"
#include "support.h"

namespace loqal::tests {
namespace {

constexpr int64_t kRowsIn = kRows, kCols = 4608, kCount = kRowsIn * kCols;  // more than a task, which ends inside a row

Layout layout_named(const std::string& name) {
  for (int i = 0; i < static_cast<int>(Layout::Count); ++i)
    if (name == layout_info(static_cast<Layout>(i)).name) return static_cast<Layout>(i);
  expect(false, "encode: no layout is called " + name);
  return Layout::Count;
}

// Rows of several sizes, with blocks of zeros and single large values.
std::vector<float> some_values(Random& random) {
  std::vector<float> values = random.normals(kCount);
  for (size_t i = 0; i < values.size(); ++i) {
    values[i] *= std::ldexp(1.0f, static_cast<int>(i / static_cast<size_t>(kCols)) - 8);
    if (i / 256 % 9 == 4) values[i] = 0.0f;
    if (i % 1013 == 0) values[i] *= 16.0f;
  }
  return values;
}

struct Encoded {
  std::vector<uint8_t> bytes;
  EncodeErrors errors;
};

Encoded encode_all(const EncodeFormat& format, EncodeSource source, const void* values, const float* importance,
                   int threads) {
  Encoded out{std::vector<uint8_t>(static_cast<size_t>(kCount / format.block_len * format.block_bytes)), {}};
  ThreadPool pool(threads);
  out.errors = encode(pool, format, {source, values, importance, kCols, 0, kCount, out.bytes.data()});
  return out;
}

// The sum of squared differences from what a packed weight of these blocks gives back.
double squared_error(const KernelTable& table, Layout layout, const Encoded& encoded,
                     const std::vector<float>& values) {
  const LayoutInfo& info = layout_info(layout);
  std::vector<uint8_t> panel(static_cast<size_t>(kCols / info.inputs * info.group_bytes));
  pack_panel(layout, encoded.bytes.data(), kRows, kCols, panel.data());
  std::vector<float> row(kCols);
  double total = 0;
  for (int r = 0; r < kRows; ++r) {
    table.read_row(layout, panel.data(), kCols, r, row.data());
    for (int64_t c = 0; c < kCols; ++c) {
      const double off = static_cast<double>(row[static_cast<size_t>(c)]) -
                         static_cast<double>(values[static_cast<size_t>(r * kCols + c)]);
      total += off * off;
    }
  }
  return total;
}

void format_program(const KernelTable& table, int index, Record& record) {
  const EncodeFormat& format = encode_table(table.name).formats[index];
  const std::string what = std::string(table.name) + " encoding " + format.name;
  const Layout layout = layout_named(format.name);
  expect(format.block_len == layout_info(layout).inputs && format.block_bytes == layout_info(layout).file_bytes,
         what + ": its blocks are not those of the layout");
  Random random(900 + static_cast<uint64_t>(index));
  const std::vector<float> values = some_values(random);
  std::vector<float> importance = random.normals(kCols);
  for (float& x : importance) x = x * x;
  for (const float* weights : {static_cast<const float*>(nullptr), static_cast<const float*>(importance.data())}) {
    const Encoded one = encode_all(format, EncodeSource::F32, values.data(), weights, 1);
    const Encoded three = encode_all(format, EncodeSource::F32, values.data(), weights, 3);
    expect_same(three.bytes, one.bytes, what + " differs on three threads");
    expect(three.errors.squared == one.errors.squared && three.errors.weighted == one.errors.weighted,
           what + ": its errors differ on three threads");
    const double exact = squared_error(table, layout, one, values);
    expect(std::fabs(one.errors.squared - exact) <= 1e-3 * exact, what + ": its error is not what is read back");
    expect(exact < 0.2 * one.errors.energy && one.errors.storable, what + " loses too much");
    record.add(one.bytes);
    const double sums[] = {one.errors.squared, one.errors.weighted, one.errors.energy, one.errors.weighted_energy};
    record.add(sums, sizeof sums);
  }
}

// Values that are float16 or bfloat16 already give the bytes that their float32 form gives.
void source_program(const KernelTable& table, int, Record&) {
  const EncodeFormat* format = find_encode_format(encode_table(table.name), "Q4_0");
  expect(format != nullptr && find_encode_format(encode_table(table.name), "Q9_9") == nullptr, "encode: wrong names");
  Random random(890);
  std::vector<float> values = some_values(random);
  std::vector<uint16_t> halves(values.size()), bfloats(values.size());
  const std::string what = std::string(table.name) + " encoding from ";
  for (size_t i = 0; i < values.size(); ++i) {
    halves[i] = to_float16(values[i]);
    values[i] = float16_value(halves[i]);
  }
  expect_same(encode_all(*format, EncodeSource::F16, halves.data(), nullptr, 1).bytes,
              encode_all(*format, EncodeSource::F32, values.data(), nullptr, 1).bytes, what + "float16");
  for (size_t i = 0; i < values.size(); ++i) {
    uint32_t bits;
    std::memcpy(&bits, &values[i], sizeof bits);
    bfloats[i] = static_cast<uint16_t>(bits >> 16);
    bits &= 0xffff0000;
    std::memcpy(&values[i], &bits, sizeof bits);
  }
  expect_same(encode_all(*format, EncodeSource::BF16, bfloats.data(), nullptr, 1).bytes,
              encode_all(*format, EncodeSource::F32, values.data(), nullptr, 1).bytes, what + "bfloat16");
  for (const float bad : {NAN, INFINITY, 65536.0f}) {
    values[100] = bad;
    expect(!encode_all(*format, EncodeSource::F32, values.data(), nullptr, 1).errors.storable,
           what + "a value that float16 cannot hold");
  }
}

// Every float16 there and back.
void float16_program(const KernelTable&, int, Record&) {
  for (int bits = 0; bits < 0x10000; ++bits) {
    const auto half = static_cast<uint16_t>(bits);
    const float value = float16_value(half);
    if (std::isnan(value)) expect((to_float16(value) & 0x7e00) == 0x7e00, "float16: NaN is lost");
    else expect(to_float16(value) == half, "float16: a value does not come back");
  }
}

}  // namespace

std::vector<Program> encode_programs() {
  std::vector<Program> out{{"encode/float16", float16_program}, {"encode/source", source_program}};
  const EncodeTable& table = encode_plain();
  for (size_t i = 0; i < table.count; ++i)
    out.push_back({std::string("encode/") + table.formats[i].name, format_program, static_cast<int>(i)});
  return out;
}

}  // namespace loqal::tests
