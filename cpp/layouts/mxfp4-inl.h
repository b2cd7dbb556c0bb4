// Twice the values of MXFP4, plus 16.
alignas(16) inline constexpr uint8_t kMxfp4Values[16] = {16, 17, 18, 19, 20, 22, 24, 28, 16, 15, 14, 13, 12, 10, 8, 4};

// MXFP4: 32 floats of 4 bits with an exponent.
//
// File:  e8m0, 16 nibble pairs
// Panel: e8m0 u8 | nibbles
struct MXFP4 : Traits<false, 0, 16, false> {
  static constexpr int kInputs = 32, kFileBytes = 17, kBytes = 16 + 256;
  void begin(const uint8_t*) {}
  void block(const uint8_t* p, int, Codes c[8], Side& s) const {
    s.scale[0] = load_e8m0_half(p);
    nibbles(p + 16, c);
    lookup_all(kMxfp4Values, c);
  }

  static void read_block(const uint8_t* p, int r, FileBlocks& g) {
    g.scales[0][r] = p[0];
    split_nibbles(p + 1, g.codes[r]);
  }
  static void write_group(const FileBlocks& g, uint8_t* p) {
    p = write_field(g.scales[0], p);
    put_runs(g, 1, 256, p, [](const RowCodes& c, uint8_t* lane) { put_nibbles(c, lane); });
  }
};
