// Q5_1: 32 codes of 5 bits with a scale and a minimum.
//
// File:  d f16, m f16, 32 high bits, 16 nibble pairs
// Panel: d f16 | m f16 | nibbles | bit 4
struct Q5_1 : Traits<false, 1, 0> {
  static constexpr int kInputs = 32, kFileBytes = 24, kBytes = 64 + 256 + 64;
  void begin(const uint8_t*) {}
  void block(const uint8_t* p, int, Codes c[8], Side& s) const {
    s.scale[0] = load_half(halves(p));
    s.minimum[0] = sub(zero(), load_half(halves(p + 32)));
    nibbles(p + 64, c);
    bit_plane<4>(p + 320, c);
  }

  static void read_block(const uint8_t* p, int r, FileBlocks& g) {
    g.d[r] = half_at(p);
    g.m[r] = half_at(p + 2);
    split_nibbles(p + 8, g.codes[r]);
    add_fifth_bit(p + 4, g.codes[r]);
  }
  static void write_group(const FileBlocks& g, uint8_t* p) {
    p = write_field(g.d, p);
    p = write_field(g.m, p);
    put_runs(g, 1, 320, p, [](const RowCodes& c, uint8_t* lane) {
      put_nibbles(c, lane);
      put_plane<4>(c, lane + 256);
    });
  }
};
