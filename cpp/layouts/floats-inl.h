// F32, F16, BF16: one input of 16 rows at a time, as the file has them.
template <class T>
struct FloatLayout {
  static constexpr bool kQuantized = false;
  static constexpr int kInputs = 1, kFileBytes = sizeof(T), kBytes = sizeof(T) * kRows;

  // `rows` rows of a file into a panel.
  static void write_panel(const uint8_t* source, int rows, int64_t inputs, uint8_t* panel) {
    constexpr int64_t kTile = 64;  // inputs at a time, so that the panel's lines are written whole
    for (int64_t k0 = 0; k0 < inputs; k0 += kTile) {
      const int64_t k1 = k0 + kTile < inputs ? k0 + kTile : inputs;
      for (int r = 0; r < rows; ++r)
        for (int64_t k = k0; k < k1; ++k)
          std::memcpy(panel + (k * kRows + r) * kFileBytes, source + (r * inputs + k) * kFileBytes, kFileBytes);
    }
  }
};

struct F32 : FloatLayout<uint32_t> {
  static Floats weights(const uint8_t* p) { return load(floats(p)); }
};
struct F16 : FloatLayout<uint16_t> {
  static Floats weights(const uint8_t* p) { return load_half(halves(p)); }
};
struct BF16 : FloatLayout<uint16_t> {
  static Floats weights(const uint8_t* p) { return load_bfloat(halves(p)); }
};
