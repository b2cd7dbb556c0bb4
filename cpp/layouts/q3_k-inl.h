// Q3_K: 256 codes of 3 bits; a scale of 6 bits for every 16.
//
// File:  32 bytes of high bits, 64 bytes of 2 bits, 16 x 6-bit scales, d f16
// Panel: d f16 | 16 scales i8 | 8 x (bit pairs, bit 2)
//
// Codes are unpacked to eight times their value, so that the offset is the one of Q6_K; an eighth of d makes up for it.
struct Q3_K : Traits<true, 0, 32> {
  static constexpr int kInputs = 256, kFileBytes = 110, kBytes = 32 + 256 + 1024 + 512;
  Floats d;
  void begin(const uint8_t* p) { d = mul(load_half(halves(p)), splat(0.125f)); }
  void block(const uint8_t* p, int j, Codes c[8], Side& s) const {
    s.scale[0] = mul(d, load_i8(p + 32 + 32 * j));
    s.scale[1] = mul(d, load_i8(p + 32 + 32 * j + 16));
    const uint8_t* codes = p + 288 + 192 * j;
    bit_pairs<3>(codes, [&](int i, Codes low, int mask) { c[i] = low_bits(low, mask); });
    bit_plane<5>(codes + 128, c);
  }

  static void read_block(const uint8_t* p, int r, FileBlocks& g) {
    two_bits(p + 32, g.codes[r]);
    for (int j = 0; j < 8; ++j)
      for (int l = 0; l < 32; ++l) g.codes[r][32 * j + l] |= static_cast<uint8_t>((p[l] >> j & 1) << 2);
    const uint8_t* s = p + 96;
    for (int j = 0; j < 16; ++j) {
      const int low = j < 8 ? s[j] & 15 : s[j - 8] >> 4, high = s[8 + j % 4] >> (2 * (j / 4)) & 3;
      g.scales[j][r] = static_cast<uint8_t>((low | high << 4) - 32);
    }
    g.d[r] = half_at(p + 108);
  }
  static void write_group(const FileBlocks& g, uint8_t* p) {
    p = write_field(g.d, p);
    p = write_field(g.scales, p);
    put_runs(g, 8, 192, p, [](const RowCodes& c, uint8_t* lane) {
      put_pairs<0>(c, lane);
      put_plane<2>(c, lane + 128);
    });
  }
};
