// Q6_K: 256 codes of 6 bits; a scale of 8 bits for every 16.
//
// File:  128 nibble pairs, 64 bytes of 2 high bits, 16 x i8 scales, d f16
// Panel: d f16 | 16 scales i8 | 8 x (nibbles, bit pairs)
struct Q6_K : Traits<true, 0, 32> {
  static constexpr int kInputs = 256, kFileBytes = 210, kBytes = 32 + 256 + 2048 + 1024;
  static constexpr bool kPrefetchSingle = true;
  Floats d;
  void begin(const uint8_t* p) { d = load_half(halves(p)); }
  void block(const uint8_t* p, int j, Codes c[8], Side& s) const {
    s.scale[0] = mul(d, load_i8(p + 32 + 32 * j));
    s.scale[1] = mul(d, load_i8(p + 32 + 32 * j + 16));
    const uint8_t* codes = p + 288 + 384 * j;
    nibbles(codes, c);
    bit_pairs<4>(codes + 256, [&](int i, Codes high, int mask) { c[i] = add_bits(c[i], high, mask); });
  }

  static void read_block(const uint8_t* p, int r, FileBlocks& g) {
    for (int n = 0; n < 2; ++n) {
      const uint8_t *ql = p + 64 * n, *qh = p + 128 + 32 * n;
      uint8_t* out = g.codes[r] + 128 * n;
      for (int l = 0; l < 32; ++l) {
        out[l] = static_cast<uint8_t>((ql[l] & 15) | (qh[l] & 3) << 4);
        out[l + 32] = static_cast<uint8_t>((ql[l + 32] & 15) | (qh[l] >> 2 & 3) << 4);
        out[l + 64] = static_cast<uint8_t>((ql[l] >> 4) | (qh[l] >> 4 & 3) << 4);
        out[l + 96] = static_cast<uint8_t>((ql[l + 32] >> 4) | (qh[l] >> 6) << 4);
      }
    }
    for (int j = 0; j < 16; ++j) g.scales[j][r] = p[192 + j];
    g.d[r] = half_at(p + 208);
  }
  static void write_group(const FileBlocks& g, uint8_t* p) {
    p = write_field(g.d, p);
    p = write_field(g.scales, p);
    put_runs(g, 8, 384, p, [](const RowCodes& c, uint8_t* lane) {
      put_nibbles(c, lane);
      put_pairs<4>(c, lane + 256);
    });
  }
};
