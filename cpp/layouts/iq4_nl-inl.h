// kIq4Levels plus 128, as a table for lookup.
struct Iq4Table {
  alignas(16) uint8_t values[16];
};
constexpr Iq4Table raised_iq4_levels() {
  Iq4Table table{};
  for (int i = 0; i < 16; ++i) table.values[i] = static_cast<uint8_t>(kIq4Levels[i] + 128);
  return table;
}
inline constexpr Iq4Table kIq4Table = raised_iq4_levels();

// IQ4_NL: 32 codes of 4 bits that name levels, with a scale.
//
// File:  d f16, 16 nibble pairs
// Panel: d f16 | nibbles
struct IQ4_NL : Traits<false, 0, 128> {
  static constexpr int kInputs = 32, kFileBytes = 18, kBytes = 32 + 256;
  void begin(const uint8_t*) {}
  void block(const uint8_t* p, int, Codes c[8], Side& s) const {
    s.scale[0] = load_half(halves(p));
    nibbles(p + 32, c);
    lookup_all(kIq4Table.values, c);
  }

  static void read_block(const uint8_t* p, int r, FileBlocks& g) {
    g.d[r] = half_at(p);
    split_nibbles(p + 2, g.codes[r]);
  }
  static void write_group(const FileBlocks& g, uint8_t* p) {
    p = write_field(g.d, p);
    put_runs(g, 1, 256, p, [](const RowCodes& c, uint8_t* lane) { put_nibbles(c, lane); });
  }
};
