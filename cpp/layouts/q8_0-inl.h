// Q8_0: 32 int8 with a scale.
//
// File:  d f16, 32 x i8
// Panel: d f16 | codes + 128
struct Q8_0 : Traits<false, 0, 128> {
  static constexpr int kInputs = 32, kFileBytes = 34, kBytes = 32 + 512;
  void begin(const uint8_t*) {}
  void block(const uint8_t* p, int, Codes c[8], Side& s) const {
    s.scale[0] = load_half(halves(p));
    load_wide(p + 32, c);
  }

  static void read_block(const uint8_t* p, int r, FileBlocks& g) {
    g.d[r] = half_at(p);
    for (int l = 0; l < 32; ++l) g.codes[r][l] = p[2 + l] ^ 0x80;
  }
  static void write_group(const FileBlocks& g, uint8_t* p) {
    p = write_field(g.d, p);
    put_runs(g, 1, 512, p, [](const RowCodes& c, uint8_t* lane) { put_wide(c, lane); });
  }
};
