// Q5_0: 32 codes of 5 bits with a scale.
//
// File:  d f16, 32 high bits, 16 nibble pairs
// Panel: d f16 | nibbles | bit 4
struct Q5_0 : Traits<false, 0, 16> {
  static constexpr int kInputs = 32, kFileBytes = 22, kBytes = 32 + 256 + 64;
  void begin(const uint8_t*) {}
  void block(const uint8_t* p, int, Codes c[8], Side& s) const {
    s.scale[0] = load_half(halves(p));
    nibbles(p + 32, c);
    bit_plane<4>(p + 288, c);
  }

  static void read_block(const uint8_t* p, int r, FileBlocks& g) {
    g.d[r] = half_at(p);
    split_nibbles(p + 6, g.codes[r]);
    add_fifth_bit(p + 2, g.codes[r]);
  }
  static void write_group(const FileBlocks& g, uint8_t* p) {
    p = write_field(g.d, p);
    put_runs(g, 1, 320, p, [](const RowCodes& c, uint8_t* lane) {
      put_nibbles(c, lane);
      put_plane<4>(c, lane + 256);
    });
  }
};
