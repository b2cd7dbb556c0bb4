// What layouts are packed with: blocks of a file to codes in order, and codes to lanes of 16 rows.

// The codes of one packed group, in input order, and the scale fields of each row.
struct FileBlocks {
  uint8_t codes[kRows][256];
  uint16_t d[kRows], m[kRows];
  uint8_t scales[16][kRows], minima[16][kRows];
};

inline uint16_t half_at(const uint8_t* p) {
  uint16_t h;
  std::memcpy(&h, p, 2);
  return h;
}

// 16 bytes: inputs 0..15 in the low nibbles, 16..31 in the high ones.
inline void split_nibbles(const uint8_t* qs, uint8_t* codes) {
  for (int l = 0; l < 16; ++l) {
    codes[l] = qs[l] & 15;
    codes[l + 16] = qs[l] >> 4;
  }
}
inline void add_fifth_bit(const uint8_t* qh, uint8_t* codes) {
  uint32_t bits;
  std::memcpy(&bits, qh, 4);
  for (int l = 0; l < 32; ++l) codes[l] |= static_cast<uint8_t>((bits >> l & 1) << 4);
}
inline void scale_min_k4(const uint8_t* q, int r, FileBlocks& g) {
  for (int j = 0; j < 4; ++j) {
    g.scales[j][r] = q[j] & 63;
    g.minima[j][r] = q[j + 4] & 63;
    g.scales[j + 4][r] = static_cast<uint8_t>((q[j + 8] & 15) | (q[j] >> 6) << 4);
    g.minima[j + 4][r] = static_cast<uint8_t>((q[j + 8] >> 4) | (q[j + 4] >> 6) << 4);
  }
}
inline void two_bits(const uint8_t* qs, uint8_t* codes) {
  for (int n = 0; n < 2; ++n)
    for (int j = 0; j < 4; ++j)
      for (int l = 0; l < 32; ++l) codes[128 * n + 32 * j + l] = qs[32 * n + l] >> (2 * j) & 3;
}

// Writers of one row's 32 codes into the lanes of row r: word i of the codes belongs to code vector i. Each works on
// four codes at a time as the bytes of one word.
struct RowCodes {
  uint32_t word[8];
  RowCodes(const uint8_t* codes) { std::memcpy(word, codes, sizeof word); }
};
inline void put_word(uint8_t* p, uint32_t word) { std::memcpy(p, &word, sizeof word); }

inline void put_wide(const RowCodes& c, uint8_t* lane) {
  for (int i = 0; i < 8; ++i) put_word(lane + 64 * i, c.word[i]);
}
inline void put_nibbles(const RowCodes& c, uint8_t* lane) {
  constexpr uint32_t low = 0x0f0f0f0f;
  for (int i = 0; i < 4; ++i) put_word(lane + 64 * i, (c.word[2 * i] & low) | (c.word[2 * i + 1] & low) << 4);
}
template <int Bit>
inline void put_plane(const RowCodes& c, uint8_t* lane) {
  uint32_t bits = 0;
  for (int i = 0; i < 8; ++i) bits |= (c.word[i] >> Bit & 0x01010101) << i;
  put_word(lane, bits);
}
template <int Bit>
inline void put_pairs(const RowCodes& c, uint8_t* lane) {
  for (int h = 0; h < 2; ++h) {
    uint32_t bits = 0;
    for (int i = 0; i < 4; ++i) bits |= (c.word[4 * h + i] >> Bit & 0x03030303) << (2 * i);
    put_word(lane + 64 * h, bits);
  }
}
// Both return where the next field goes.
inline uint8_t* write_field(const void* data, size_t bytes, uint8_t* p) {
  std::memcpy(p, data, bytes);
  return p + bytes;
}
template <class T, size_t N>
inline uint8_t* write_field(const T (&field)[N], uint8_t* p) {
  return write_field(field, sizeof field, p);
}

// The codes of `runs` runs of all rows, each run in `run_bytes` bytes: calls put_row(codes, lane).
template <class PutRow>
inline void put_runs(const FileBlocks& g, int runs, int run_bytes, uint8_t* p, PutRow put_row) {
  for (int run = 0; run < runs; ++run, p += run_bytes)
    for (int r = 0; r < kRows; ++r) put_row(RowCodes(g.codes[r] + kRun * run), p + 4 * r);
}
