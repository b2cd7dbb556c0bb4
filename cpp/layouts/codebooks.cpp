// IQ1 to IQ3: blocks of 256 values whose codes name vectors of a codebook. The bytes of a block are described in
// src/loqal/formats/i_quants.py, from where the codebooks come as well: none is written down here.
#include <cstring>

#include "base/float16.h"
#include "layouts/pack.h"
#include "layouts/plain.h"

namespace loqal {
namespace {

template <class T>
T read(const void* p) {
  T value;
  std::memcpy(&value, p, sizeof value);
  return value;
}
float half_at(const uint8_t* p) { return float16_value(read<uint16_t>(p)); }

// Eight values: one vector of eight, or two of four.
uint64_t eight(const Codebook& book, unsigned index) { return read<uint64_t>(book.vectors + 8 * index); }
uint64_t fours(const Codebook& book, unsigned first, unsigned second) {
  return read<uint32_t>(book.vectors + 4 * first) | static_cast<uint64_t>(read<uint32_t>(book.vectors + 4 * second))
                                                        << 32;
}
// Eight values times eight signs. Values that have signs are above zero, so no carry leaves a byte.
uint64_t with_signs(const Codebook& book, uint64_t values, unsigned index) {
  const uint64_t minus = read<uint64_t>(book.signs + 8 * index) >> 7 & 0x0101010101010101;
  return (values ^ minus * 255) + minus;
}

// The product is rounded after each step, as in the twin.
float half_step(float d, unsigned scale, float unit) { return d * (static_cast<float>(scale) + 0.5f) * unit; }
float odd_step(float d, unsigned scale) { return d * static_cast<float>(2 * scale + 1); }

unsigned nibble(const uint8_t* p, int i) { return p[i / 2] >> (4 * (i % 2)) & 15; }

void read_iq2_xxs(const uint8_t* p, const Codebook& book, CodebookBlock& out) {
  const float d = half_at(p);
  for (int g = 0; g < 8; ++g) {
    const uint8_t* index = p + 2 + 8 * g;
    const auto word = read<uint32_t>(index + 4);
    for (int k = 0; k < 4; ++k) out.codes[4 * g + k] = with_signs(book, eight(book, index[k]), word >> (7 * k) & 127);
    out.scales[2 * g] = out.scales[2 * g + 1] = half_step(d, word >> 28, 0.25f);
  }
}

void read_iq2_xs(const uint8_t* p, const Codebook& book, CodebookBlock& out) {
  const float d = half_at(p);
  for (int v = 0; v < 32; ++v) {
    const auto word = read<uint16_t>(p + 2 + 2 * v);
    out.codes[v] = with_signs(book, eight(book, word & 511), word >> 9);
  }
  for (int j = 0; j < 16; ++j) out.scales[j] = half_step(d, nibble(p + 66, j), 0.25f);
}

void read_iq2_s(const uint8_t* p, const Codebook& book, CodebookBlock& out) {
  const float d = half_at(p);
  for (int v = 0; v < 32; ++v) {
    const unsigned high = p[66 + v / 4] >> (2 * (v % 4)) & 3;
    out.codes[v] = with_signs(book, eight(book, p[2 + v] | high << 8), p[34 + v]);
  }
  for (int j = 0; j < 16; ++j) out.scales[j] = half_step(d, nibble(p + 74, j), 0.25f);
}

void read_iq3_xxs(const uint8_t* p, const Codebook& book, CodebookBlock& out) {
  const float d = half_at(p);
  for (int g = 0; g < 8; ++g) {
    const uint8_t* index = p + 2 + 8 * g;
    const auto word = read<uint32_t>(p + 66 + 4 * g);
    for (int k = 0; k < 4; ++k)
      out.codes[4 * g + k] = with_signs(book, fours(book, index[2 * k], index[2 * k + 1]), word >> (7 * k) & 127);
    out.scales[2 * g] = out.scales[2 * g + 1] = half_step(d, word >> 28, 0.5f);
  }
}

void read_iq3_s(const uint8_t* p, const Codebook& book, CodebookBlock& out) {
  const float d = half_at(p);
  for (int v = 0; v < 32; ++v) {
    const unsigned high = p[66 + v / 4] >> (2 * (v % 4));
    const unsigned first = p[2 + 2 * v] | (high & 1) << 8, second = p[3 + 2 * v] | (high >> 1 & 1) << 8;
    out.codes[v] = with_signs(book, fours(book, first, second), p[74 + v]);
  }
  for (int g = 0; g < 8; ++g) out.scales[2 * g] = out.scales[2 * g + 1] = odd_step(d, nibble(p + 106, g));
}

// The second half of IQ1's vectors is the one shifted down.
void read_iq1_s(const uint8_t* p, const Codebook& book, CodebookBlock& out) {
  const float d = half_at(p);
  for (int g = 0; g < 8; ++g) {
    const unsigned word = read<uint16_t>(p + 34 + 2 * g), down = word >> 15 << 11;
    for (int k = 0; k < 4; ++k)
      out.codes[4 * g + k] = eight(book, p[2 + 4 * g + k] | (word >> (3 * k) & 7) << 8 | down);
    out.scales[2 * g] = out.scales[2 * g + 1] = odd_step(d, word >> 12 & 7) * 0.125f;
  }
}

void read_iq1_m(const uint8_t* p, const Codebook& book, CodebookBlock& out) {
  uint8_t bits[2];
  for (int i = 0; i < 2; ++i) bits[i] = static_cast<uint8_t>(p[49 + 4 * i] >> 4 | (p[51 + 4 * i] & 0xf0));
  const float d = half_at(bits);
  for (int v = 0; v < 32; ++v) out.codes[v] = eight(book, p[v] | nibble(p + 32, v) << 8);
  for (int j = 0; j < 16; ++j) {
    const unsigned word = read<uint16_t>(p + 48 + 2 * (j / 4));
    out.scales[j] = odd_step(d, word >> (3 * (j % 4)) & 7) * 0.125f;
  }
}

// Writes one row's values into its lane of eight groups of Layout::I8.
constexpr int kRunsInBlock = kCodebookBlock / kRun;
void write_row(const CodebookBlock& block, int row, uint8_t* group) {
  using plain_layouts::I8;
  for (int run = 0; run < kRunsInBlock; ++run, group += I8::kBytes)
    I8::write_row(block.codes + 4 * run, block.scales + 2 * run, row, group);
}

constexpr CodebookFormat kFormats[] = {
    {"IQ1_S", 50, 4096, 8, 1, read_iq1_s},      {"IQ1_M", 56, 4096, 8, 1, read_iq1_m},
    {"IQ2_XXS", 66, 256, 8, 128, read_iq2_xxs}, {"IQ2_XS", 74, 512, 8, 128, read_iq2_xs},
    {"IQ2_S", 82, 1024, 8, 256, read_iq2_s},    {"IQ3_XXS", 98, 256, 4, 128, read_iq3_xxs},
    {"IQ3_S", 110, 512, 4, 256, read_iq3_s},
};

}  // namespace

const CodebookFormat* find_codebook_format(const std::string& name) {
  for (const CodebookFormat& format : kFormats)
    if (name == format.name) return &format;
  return nullptr;
}

void pack_panel_codebook(const CodebookFormat& format, const Codebook& book, const uint8_t* source, int rows,
                         int64_t inputs, uint8_t* panel) {
  const int64_t blocks = inputs / kCodebookBlock, row_bytes = blocks * format.block_bytes;
  for (int64_t i = 0; i < blocks; ++i, panel += kRunsInBlock * layout_info(Layout::I8).group_bytes)
    for (int r = 0; r < kRows; ++r) {
      CodebookBlock block;
      if (r < rows) format.read(source + r * row_bytes + i * format.block_bytes, book, block);
      else std::memset(&block, 0, sizeof block);
      write_row(block, r, panel);
    }
}

}  // namespace loqal
