// I8: int8 codes with a float scale per 16 inputs, what formats with codebooks are decoded to. No file has it.
//
// Panel: scales f32 x 2 | codes + 128
struct I8 : Traits<true, 0, 128, false> {
  static constexpr int kInputs = 32, kFileBytes = 0, kBytes = 128 + 512;
  void begin(const uint8_t*) {}
  void block(const uint8_t* p, int, Codes c[8], Side& s) const {
    s.scale[0] = load(floats(p));
    s.scale[1] = load(floats(p + 64));
    load_wide(p + 128, c);
  }

  // Writes 32 inputs of one row: four times eight int8 codes, and two scales.
  static void write_row(const uint64_t codes[4], const float scales[2], int row, uint8_t* group) {
    for (int h = 0; h < 2; ++h) std::memcpy(group + (h * kRows + row) * sizeof(float), scales + h, sizeof(float));
    uint8_t* lane = group + 2 * kRows * sizeof(float) + 4 * row;
    for (int i = 0; i < 4; ++i, lane += 2 * 4 * kRows) {
      const uint64_t raised = codes[i] ^ 0x8080808080808080;
      put_word(lane, static_cast<uint32_t>(raised));
      put_word(lane + 4 * kRows, static_cast<uint32_t>(raised >> 32));
    }
  }
};
