// IQ4_XS: 256 codes of 4 bits that name levels; a scale of 6 bits for every 32.
//
// File:  d f16, high and low bits of 8 scales, 128 nibble pairs
// Panel: d f16 | 8 scales i8 | 8 x nibbles
struct IQ4_XS : Traits<false, 0, 128> {
  static constexpr int kInputs = 256, kFileBytes = 136, kBytes = 32 + 128 + 2048;
  Floats d;
  void begin(const uint8_t* p) { d = load_half(halves(p)); }
  void block(const uint8_t* p, int j, Codes c[8], Side& s) const {
    s.scale[0] = mul(d, load_i8(p + 32 + 16 * j));
    nibbles(p + 160 + 256 * j, c);
    lookup_all(kIq4Table.values, c);
  }

  static void read_block(const uint8_t* p, int r, FileBlocks& g) {
    g.d[r] = half_at(p);
    const uint16_t high = half_at(p + 2);
    for (int j = 0; j < 8; ++j) {
      const int low = p[4 + j / 2] >> (4 * (j % 2)) & 15;
      g.scales[j][r] = static_cast<uint8_t>((low | (high >> (2 * j) & 3) << 4) - 32);
      split_nibbles(p + 8 + 16 * j, g.codes[r] + 32 * j);
    }
  }
  static void write_group(const FileBlocks& g, uint8_t* p) {
    p = write_field(g.d, p);
    p = write_field(g.scales, 8 * kRows, p);
    put_runs(g, 8, 256, p, [](const RowCodes& c, uint8_t* lane) { put_nibbles(c, lane); });
  }
};
