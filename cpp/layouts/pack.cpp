#include "layouts/pack.h"

#include <cstring>

namespace loqal {
namespace {

// The codes of one packed group, in input order, and the scale fields of each row.
struct Group {
  uint8_t codes[kRows][256];
  uint16_t d[kRows], m[kRows];
  uint8_t scales[16][kRows], minima[16][kRows];
};

uint16_t half_at(const uint8_t* p) {
  uint16_t h;
  std::memcpy(&h, p, 2);
  return h;
}

// 16 bytes: inputs 0..15 in the low nibbles, 16..31 in the high ones.
void split_nibbles(const uint8_t* qs, uint8_t* codes) {
  for (int l = 0; l < 16; ++l) {
    codes[l] = qs[l] & 15;
    codes[l + 16] = qs[l] >> 4;
  }
}
void add_fifth_bit(const uint8_t* qh, uint8_t* codes) {
  uint32_t bits;
  std::memcpy(&bits, qh, 4);
  for (int l = 0; l < 32; ++l) codes[l] |= static_cast<uint8_t>((bits >> l & 1) << 4);
}
void scale_min_k4(const uint8_t* q, int r, Group& g) {
  for (int j = 0; j < 4; ++j) {
    g.scales[j][r] = q[j] & 63;
    g.minima[j][r] = q[j + 4] & 63;
    g.scales[j + 4][r] = static_cast<uint8_t>((q[j + 8] & 15) | (q[j] >> 6) << 4);
    g.minima[j + 4][r] = static_cast<uint8_t>((q[j + 8] >> 4) | (q[j + 4] >> 6) << 4);
  }
}
void two_bits(const uint8_t* qs, uint8_t* codes) {
  for (int n = 0; n < 2; ++n)
    for (int j = 0; j < 4; ++j)
      for (int l = 0; l < 32; ++l) codes[128 * n + 32 * j + l] = qs[32 * n + l] >> (2 * j) & 3;
}

// Reads one block of row r. The layouts of the file are those of ggml's block structures.
void read_block(Layout layout, const uint8_t* p, int r, Group& g) {
  uint8_t* codes = g.codes[r];
  switch (layout) {
    case Layout::Q8_0:  // d, 32 x i8
      g.d[r] = half_at(p);
      for (int l = 0; l < 32; ++l) codes[l] = p[2 + l] ^ 0x80;
      return;
    case Layout::Q4_0:  // d, 16 nibble pairs
    case Layout::IQ4_NL: g.d[r] = half_at(p); return split_nibbles(p + 2, codes);
    case Layout::Q4_1:  // d, m, 16 nibble pairs
      g.d[r] = half_at(p);
      g.m[r] = half_at(p + 2);
      return split_nibbles(p + 4, codes);
    case Layout::Q5_0:  // d, 32 high bits, 16 nibble pairs
      g.d[r] = half_at(p);
      split_nibbles(p + 6, codes);
      return add_fifth_bit(p + 2, codes);
    case Layout::Q5_1:  // d, m, 32 high bits, 16 nibble pairs
      g.d[r] = half_at(p);
      g.m[r] = half_at(p + 2);
      split_nibbles(p + 8, codes);
      return add_fifth_bit(p + 4, codes);
    case Layout::MXFP4:  // exponent, 16 nibble pairs
      g.scales[0][r] = p[0];
      return split_nibbles(p + 1, codes);
    case Layout::Q2_K:  // 16 x (scale, minimum), 64 bytes of 2 bits, d, dmin
      for (int j = 0; j < 16; ++j) g.scales[j][r] = p[j];
      two_bits(p + 16, codes);
      g.d[r] = half_at(p + 80);
      g.m[r] = half_at(p + 82);
      return;
    case Layout::Q3_K: {  // 32 bytes of high bits, 64 bytes of 2 bits, 16 x 6-bit scales, d
      two_bits(p + 32, codes);
      for (int j = 0; j < 8; ++j)
        for (int l = 0; l < 32; ++l) codes[32 * j + l] |= static_cast<uint8_t>((p[l] >> j & 1) << 2);
      const uint8_t* s = p + 96;
      for (int j = 0; j < 16; ++j) {
        const int low = j < 8 ? s[j] & 15 : s[j - 8] >> 4, high = s[8 + j % 4] >> (2 * (j / 4)) & 3;
        g.scales[j][r] = static_cast<uint8_t>((low | high << 4) - 32);
      }
      g.d[r] = half_at(p + 108);
      return;
    }
    case Layout::Q4_K:  // d, dmin, 8 x 6-bit scales and minima, 128 nibble pairs
    case Layout::Q5_K: {
      const bool fifth = layout == Layout::Q5_K;  // ... 32 bytes of high bits before the nibbles
      g.d[r] = half_at(p);
      g.m[r] = half_at(p + 2);
      scale_min_k4(p + 4, r, g);
      const uint8_t *qh = p + 16, *qs = p + (fifth ? 48 : 16);
      for (int c = 0; c < 4; ++c)
        for (int l = 0; l < 32; ++l) {
          const int low = fifth ? qh[l] >> (2 * c) & 1 : 0, high = fifth ? qh[l] >> (2 * c + 1) & 1 : 0;
          codes[64 * c + l] = static_cast<uint8_t>((qs[32 * c + l] & 15) | low << 4);
          codes[64 * c + 32 + l] = static_cast<uint8_t>((qs[32 * c + l] >> 4) | high << 4);
        }
      return;
    }
    case Layout::Q6_K: {  // 128 nibble pairs, 64 bytes of 2 high bits, 16 x i8 scales, d
      for (int n = 0; n < 2; ++n) {
        const uint8_t *ql = p + 64 * n, *qh = p + 128 + 32 * n;
        uint8_t* out = codes + 128 * n;
        for (int l = 0; l < 32; ++l) {
          out[l] = static_cast<uint8_t>((ql[l] & 15) | (qh[l] & 3) << 4);
          out[l + 32] = static_cast<uint8_t>((ql[l + 32] & 15) | (qh[l] >> 2 & 3) << 4);
          out[l + 64] = static_cast<uint8_t>((ql[l] >> 4) | (qh[l] >> 4 & 3) << 4);
          out[l + 96] = static_cast<uint8_t>((ql[l + 32] >> 4) | (qh[l] >> 6) << 4);
        }
      }
      for (int j = 0; j < 16; ++j) g.scales[j][r] = p[192 + j];
      g.d[r] = half_at(p + 208);
      return;
    }
    case Layout::IQ4_XS: {  // d, high and low bits of 8 scales, 128 nibble pairs
      g.d[r] = half_at(p);
      const uint16_t high = half_at(p + 2);
      for (int j = 0; j < 8; ++j) {
        const int low = p[4 + j / 2] >> (4 * (j % 2)) & 15;
        g.scales[j][r] = static_cast<uint8_t>((low | (high >> (2 * j) & 3) << 4) - 32);
        split_nibbles(p + 8 + 16 * j, codes + 32 * j);
      }
      return;
    }
    default: return;
  }
}

// Writers of one row's 32 codes into the lanes of row r: word i of the codes belongs to code vector i. Each works on
// four codes at a time as the bytes of one word.
struct RowCodes {
  uint32_t word[8];
  RowCodes(const uint8_t* codes) { std::memcpy(word, codes, sizeof word); }
};
void put_word(uint8_t* p, uint32_t word) { std::memcpy(p, &word, sizeof word); }

void put_wide(const RowCodes& c, uint8_t* lane) {
  for (int i = 0; i < 8; ++i) put_word(lane + 64 * i, c.word[i]);
}
void put_nibbles(const RowCodes& c, uint8_t* lane) {
  constexpr uint32_t low = 0x0f0f0f0f;
  for (int i = 0; i < 4; ++i) put_word(lane + 64 * i, (c.word[2 * i] & low) | (c.word[2 * i + 1] & low) << 4);
}
template <int Bit>
void put_plane(const RowCodes& c, uint8_t* lane) {
  uint32_t bits = 0;
  for (int i = 0; i < 8; ++i) bits |= (c.word[i] >> Bit & 0x01010101) << i;
  put_word(lane, bits);
}
template <int Bit>
void put_pairs(const RowCodes& c, uint8_t* lane) {
  for (int h = 0; h < 2; ++h) {
    uint32_t bits = 0;
    for (int i = 0; i < 4; ++i) bits |= (c.word[4 * h + i] >> Bit & 0x03030303) << (2 * i);
    put_word(lane + 64 * h, bits);
  }
}
uint8_t* write(const void* data, size_t bytes, uint8_t* p) {
  std::memcpy(p, data, bytes);
  return p + bytes;
}

// The packed form of a group; the contents are listed with each format in layouts/formats-inl.h.
void write_group(Layout layout, const Group& g, uint8_t* p) {
  const int runs = layout_info(layout).inputs / kRun;
  const uint8_t* const start = p;
  const bool has_m = layout == Layout::Q4_1 || layout == Layout::Q5_1 || layout == Layout::Q2_K ||
                     layout == Layout::Q4_K || layout == Layout::Q5_K;
  if (layout == Layout::MXFP4) p = write(g.scales[0], kRows, p);
  else p = write(g.d, sizeof g.d, p);
  if (has_m) p = write(g.m, sizeof g.m, p);
  if (runs == 8) {
    const bool per_16 = layout == Layout::Q2_K || layout == Layout::Q3_K || layout == Layout::Q6_K;
    p = write(g.scales, static_cast<size_t>(per_16 ? 16 : 8) * kRows, p);
    if (layout == Layout::Q4_K || layout == Layout::Q5_K) p = write(g.minima, 8 * kRows, p);
  }
  const int run_bytes = static_cast<int>(layout_info(layout).group_bytes - (p - start)) / runs;
  for (int run = 0; run < runs; ++run, p += run_bytes)
    for (int r = 0; r < kRows; ++r) {
      const RowCodes c(g.codes[r] + kRun * run);
      uint8_t* lane = p + 4 * r;
      switch (layout) {
        case Layout::Q8_0: put_wide(c, lane); break;
        case Layout::Q5_0:
        case Layout::Q5_1:
        case Layout::Q5_K: put_nibbles(c, lane), put_plane<4>(c, lane + 256); break;
        case Layout::Q6_K: put_nibbles(c, lane), put_pairs<4>(c, lane + 256); break;
        case Layout::Q3_K: put_pairs<0>(c, lane), put_plane<2>(c, lane + 128); break;
        case Layout::Q2_K: put_pairs<0>(c, lane); break;
        default: put_nibbles(c, lane);
      }
    }
}

int file_block_bytes(Layout layout) {
  switch (layout) {
    case Layout::F32: return 4;
    case Layout::F16:
    case Layout::BF16: return 2;
    case Layout::Q8_0: return 34;
    case Layout::Q4_0:
    case Layout::IQ4_NL: return 18;
    case Layout::Q4_1: return 20;
    case Layout::Q5_0: return 22;
    case Layout::Q5_1: return 24;
    case Layout::MXFP4: return 17;
    case Layout::Q2_K: return 84;
    case Layout::Q3_K: return 110;
    case Layout::Q4_K: return 144;
    case Layout::Q5_K: return 176;
    case Layout::Q6_K: return 210;
    case Layout::IQ4_XS: return 136;
    default: return 0;
  }
}

template <class T>
void pack_floats(const uint8_t* source, int rows, int64_t inputs, uint8_t* panel) {
  constexpr int64_t kTile = 64;  // inputs at a time, so that the panel's lines are written whole
  for (int64_t k0 = 0; k0 < inputs; k0 += kTile) {
    const int64_t k1 = k0 + kTile < inputs ? k0 + kTile : inputs;
    for (int r = 0; r < rows; ++r)
      for (int64_t k = k0; k < k1; ++k)
        std::memcpy(panel + (k * kRows + r) * static_cast<int64_t>(sizeof(T)),
                    source + (r * inputs + k) * static_cast<int64_t>(sizeof(T)), sizeof(T));
  }
}

}  // namespace

int64_t file_row_bytes(Layout layout, int64_t inputs) {
  return inputs / layout_info(layout).inputs * file_block_bytes(layout);
}

void pack_panel(Layout layout, const uint8_t* source, int rows, int64_t inputs, uint8_t* panel) {
  if (layout == Layout::F32) return pack_floats<uint32_t>(source, rows, inputs, panel);
  if (layout == Layout::F16 || layout == Layout::BF16) return pack_floats<uint16_t>(source, rows, inputs, panel);
  const LayoutInfo& info = layout_info(layout);
  const int64_t row_bytes = file_row_bytes(layout, inputs), block = file_block_bytes(layout);
  Group g;
  std::memset(&g, 0, sizeof g);
  for (int64_t i = 0; i < inputs / info.inputs; ++i, panel += info.group_bytes) {
    for (int r = 0; r < rows; ++r) read_block(layout, source + r * row_bytes + i * block, r, g);
    write_group(layout, g, panel);
  }
}

}  // namespace loqal
