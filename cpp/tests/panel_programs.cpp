// Packing, products with a panel and reading rows back, for every layout of weights.
#include <algorithm>
#include <cmath>
#include <iterator>

#include "layouts/pack.h"
#include "support.h"

namespace loqal::tests {
namespace {

constexpr int kColumns = 53;  // more than do without a slab
constexpr int kMissing = 5;   // rows missing in the second panel

int64_t some_inputs(const LayoutInfo& info) {
  if (!info.quantized) return 203;
  return info.inputs == 256 ? 768 : 608;  // 19 runs: no whole number of slabs
}

// Two panels, the second one short.
std::vector<uint8_t> pack_some(Layout layout, Random& random) {
  const LayoutInfo& info = layout_info(layout);
  const int64_t inputs = some_inputs(info), panel_bytes = inputs / info.inputs * info.group_bytes;
  std::vector<uint8_t> panels(static_cast<size_t>(2 * panel_bytes));
  const int rows[2] = {kRows, kRows - kMissing};
  for (int i = 0; i < 2; ++i) {
    uint8_t* panel = panels.data() + i * panel_bytes;
    if (layout == Layout::I8) {
      const std::vector<uint8_t> codes = random.bytes(rows[i] * inputs);
      const std::vector<float> scales = random.normals(rows[i] * inputs / 16);
      pack_panel_i8(reinterpret_cast<const int8_t*>(codes.data()), scales.data(), rows[i], inputs, panel);
    } else {
      pack_panel(layout, random_file(layout, rows[i], inputs, random).data(), rows[i], inputs, panel);
    }
  }
  return panels;
}

// Activations with runs of zeros, of values too small to scale, and of large ones.
std::vector<float> some_activations(int64_t inputs, Random& random) {
  std::vector<float> x = random.normals(kColumns * inputs);
  for (size_t i = 0; i < x.size(); ++i) {
    const size_t run = i / kRun % 29;
    if (run == 3) x[i] = 0.0f;
    if (run == 11) x[i] *= 0x1p-125f;
    if (run == 17) x[i] *= 0x1p40f;
  }
  return x;
}

// Packing writes every byte of the groups that the table of layouts promises, and none behind them.
void packed_size_program(const KernelTable&, int argument, Record&) {
  const auto layout = static_cast<Layout>(argument);
  const LayoutInfo& info = layout_info(layout);
  constexpr int kGroups = 3, kBeyond = 64;
  Random random(150 + static_cast<uint64_t>(argument));
  const std::vector<uint8_t> file = random_file(layout, kRows, kGroups * info.inputs, random);
  const auto size = static_cast<size_t>(kGroups * info.group_bytes);
  std::vector<uint8_t> zeros(size + kBeyond, 0), ones(size + kBeyond, 0xff);
  for (std::vector<uint8_t>* panel : {&zeros, &ones})
    pack_panel(layout, file.data(), kRows, kGroups * info.inputs, panel->data());
  const std::string what = std::string("packing ") + info.name;
  expect_same(zeros.data(), ones.data(), size, what + " leaves a byte as it was");
  for (size_t i = size; i < size + kBeyond; ++i)
    expect(zeros[i] == 0 && ones[i] == 0xff, what + " writes beyond its groups");
}

void panel_program(const KernelTable& table, int argument, Record& record) {
  const auto layout = static_cast<Layout>(argument);
  const LayoutInfo& info = layout_info(layout);
  Random random(100 + static_cast<uint64_t>(argument));
  const std::vector<uint8_t> panels = pack_some(layout, random);
  const int64_t inputs = some_inputs(info), runs = inputs / kRun;
  const std::vector<float> x = some_activations(inputs, random);
  const int64_t stride = info.quantized ? runs + 1 : inputs;  // rows need not touch
  std::vector<ActivationRun> xq(static_cast<size_t>(kColumns * stride));
  if (info.quantized)
    for (int c = 0; c < kColumns; ++c) table.quantize(x.data() + c * inputs, inputs, xq.data() + c * stride);

  const auto product = [&](const uint8_t* panel, int first, int columns) {
    std::vector<float> out(static_cast<size_t>(columns * kRows));
    table.multiply_panels[static_cast<int>(layout)]({panel,
                                                     0,
                                                     1,
                                                     inputs,
                                                     xq.data() + first * stride,
                                                     x.data() + first * inputs,
                                                     stride,
                                                     columns,
                                                     first % 2 == 0,
                                                     {out.data(), kRows, false}});
    return out;
  };
  for (const int columns : {1, 3, 8, 9, 33, kColumns}) {
    const auto half = static_cast<int64_t>(panels.size() / 2), size = static_cast<int64_t>(columns * kRows);
    std::vector<float> both(static_cast<size_t>(2 * size), 1.0f);
    table.multiply_panels[static_cast<int>(layout)](
        {panels.data(), half, 2, inputs, xq.data(), x.data(), stride, columns, false, {both.data(), 2 * kRows, true}});
    for (int i = 0; i < 2; ++i) {
      const std::vector<float> one = product(panels.data() + half * i, 0, columns);
      for (int c = 0; c < columns; ++c)
        for (int r = 0; r < kRows; ++r)
          expect(both[static_cast<size_t>((2 * c + i) * kRows + r)] == 1.0f + one[static_cast<size_t>(c * kRows + r)] ||
                     std::isnan(one[static_cast<size_t>(c * kRows + r)]),
                 std::string(table.name) + " two panels of " + info.name + " differ from one");
    }
  }
  for (int i = 0; i < 2; ++i) {
    const uint8_t* panel = panels.data() + panels.size() / 2 * static_cast<size_t>(i);
    const std::vector<float> whole = product(panel, 0, kColumns);
    for (int columns = 1; columns < kColumns; ++columns) {
      const std::vector<float> part = product(panel, 0, columns), alone = product(panel, columns, 1);
      const std::string what = std::string(table.name) + " panel " + info.name + ", " + std::to_string(columns);
      expect_same(part.data(), whole.data(), part.size(), what + " columns are not those of a batch");
      expect_same(alone.data(), whole.data() + columns * kRows, kRows, what + " is not what it is alone");
    }
    record.add(whole);
  }
}

void read_row_program(const KernelTable& table, int argument, Record& record) {
  const auto layout = static_cast<Layout>(argument);
  Random random(200 + static_cast<uint64_t>(argument));
  const std::vector<uint8_t> panels = pack_some(layout, random);
  record.add(panels);  // what packing gives is compared between platforms here
  const int64_t inputs = some_inputs(layout_info(layout));
  std::vector<float> out(static_cast<size_t>(inputs));
  for (int row = 0; row < 2 * kRows - kMissing; ++row) {
    const uint8_t* panel = panels.data() + panels.size() / 2 * static_cast<size_t>(row / kRows);
    table.read_row(layout, panel, inputs, row % kRows, out.data());
    record.add(out);
  }
}

constexpr const char* kCodebookFormats[] = {"IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S"};

// Codebooks of random vectors: the true ones belong to the Python side, whose tests compare with its own decoders.
void codebook_program(const KernelTable&, int argument, Record& record) {
  const CodebookFormat& format = *find_codebook_format(kCodebookFormats[argument]);
  Random random(300 + static_cast<uint64_t>(argument));
  std::vector<int8_t> vectors(static_cast<size_t>(format.num_vectors * format.vector_len));
  std::vector<int8_t> signs(static_cast<size_t>(format.num_signs * 8));
  for (int8_t& value : vectors) value = static_cast<int8_t>(1 + random.below(62));
  for (int8_t& sign : signs) sign = random.below(2) ? 1 : -1;
  constexpr int64_t kInputs = 3 * kCodebookBlock;
  const std::vector<uint8_t> file = random.bytes(kRows * kInputs / kCodebookBlock * format.block_bytes);
  for (const int rows : {kRows, kRows - kMissing}) {
    std::vector<uint8_t> panel(static_cast<size_t>(kInputs / kRun * layout_info(Layout::I8).group_bytes), 0xff);
    pack_panel_codebook(format, {vectors.data(), signs.data()}, file.data(), rows, kInputs, panel.data());
    record.add(panel);
  }
}

}  // namespace

std::vector<Program> panel_programs() {
  std::vector<Program> out;
  for (int i = 0; i < static_cast<int>(std::size(kCodebookFormats)); ++i)
    out.push_back({std::string("codebook/") + kCodebookFormats[i], codebook_program, i});
  for (int i = 0; i < static_cast<int>(Layout::Count); ++i) {
    const std::string name = layout_info(static_cast<Layout>(i)).name;
    if (layout_info(static_cast<Layout>(i)).file_bytes) out.push_back({"packed_size/" + name, packed_size_program, i});
    out.push_back({"panel/" + name, panel_program, i});
    out.push_back({"read_row/" + name, read_row_program, i});
  }
  return out;
}

}  // namespace loqal::tests
