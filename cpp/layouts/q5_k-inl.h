// Q5_K: 256 codes of 5 bits; a scale and a minimum of 6 bits for every 32.
//
// File:  d f16, dmin f16, 8 x 6-bit scales and minima, 32 bytes of high bits, 128 nibble pairs
// Panel: d f16 | dmin f16 | 8 scales u8 | 8 minima u8 | 8 x (nibbles, bit 4)
struct Q5_K : Traits<false, 1, 0> {
  static constexpr int kInputs = 256, kFileBytes = 176, kBytes = 64 + 256 + 2048 + 512;
  Floats d, dmin;
  void begin(const uint8_t* p) {
    d = load_half(halves(p));
    dmin = load_half(halves(p + 32));
  }
  void block(const uint8_t* p, int j, Codes c[8], Side& s) const {
    s.scale[0] = mul(d, load_u8(p + 64 + 16 * j));
    s.minimum[0] = mul(dmin, load_u8(p + 192 + 16 * j));
    nibbles(p + 320 + 320 * j, c);
    bit_plane<4>(p + 320 + 320 * j + 256, c);
  }

  static void read_block(const uint8_t* p, int r, FileBlocks& g) {
    g.d[r] = half_at(p);
    g.m[r] = half_at(p + 2);
    scale_min_k4(p + 4, r, g);
    for (int c = 0; c < 4; ++c)
      for (int l = 0; l < 32; ++l) {
        const int low = p[16 + l] >> (2 * c) & 1, high = p[16 + l] >> (2 * c + 1) & 1;
        g.codes[r][64 * c + l] = static_cast<uint8_t>((p[48 + 32 * c + l] & 15) | low << 4);
        g.codes[r][64 * c + 32 + l] = static_cast<uint8_t>((p[48 + 32 * c + l] >> 4) | high << 4);
      }
  }
  static void write_group(const FileBlocks& g, uint8_t* p) {
    p = write_field(g.d, p);
    p = write_field(g.m, p);
    p = write_field(g.scales, 8 * kRows, p);
    p = write_field(g.minima, 8 * kRows, p);
    put_runs(g, 8, 320, p, [](const RowCodes& c, uint8_t* lane) {
      put_nibbles(c, lane);
      put_plane<4>(c, lane + 256);
    });
  }
};
