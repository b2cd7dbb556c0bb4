// Q2_K: 256 codes of 2 bits; a scale and a minimum of 4 bits for every 16.
//
// File:  16 x (scale, minimum), 64 bytes of 2 bits, d f16, dmin f16
// Panel: d f16 | dmin f16 | 16 x (scale, minimum) nibbles | 8 x bit pairs
struct Q2_K : Traits<true, 2, 0> {
  static constexpr int kInputs = 256, kFileBytes = 84, kBytes = 64 + 256 + 1024;
  Floats d, dmin;
  void begin(const uint8_t* p) {
    d = load_half(halves(p));
    dmin = load_half(halves(p + 32));
  }
  void block(const uint8_t* p, int j, Codes c[8], Side& s) const {
    for (int h = 0; h < 2; ++h) {
      const uint8_t* both = p + 64 + 32 * j + 16 * h;
      s.scale[h] = mul(d, load_low_nibbles(both));
      s.minimum[h] = mul(dmin, load_high_nibbles(both));
    }
    bit_pairs<0>(p + 320 + 128 * j, [&](int i, Codes low, int mask) { c[i] = low_bits(low, mask); });
  }

  static void read_block(const uint8_t* p, int r, FileBlocks& g) {
    for (int j = 0; j < 16; ++j) g.scales[j][r] = p[j];
    two_bits(p + 16, g.codes[r]);
    g.d[r] = half_at(p + 80);
    g.m[r] = half_at(p + 82);
  }
  static void write_group(const FileBlocks& g, uint8_t* p) {
    p = write_field(g.d, p);
    p = write_field(g.m, p);
    p = write_field(g.scales, p);
    put_runs(g, 8, 128, p, [](const RowCodes& c, uint8_t* lane) { put_pairs<0>(c, lane); });
  }
};
