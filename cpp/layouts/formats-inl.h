// How each packed layout gives up its weights: for 32 inputs of 16 rows, eight vectors of codes and the scales.
//
// weight = scale * (code - offset) - minimum. Code vector i of a block of 32 inputs holds inputs 4i .. 4i+3 of all 16
// rows. Packed order of nibbles: byte vector i holds code vectors 2i (low) and 2i+1 (high).
//
//   kPair    two scales per 32 inputs, one for each half
//   kMinima  0 none, 1 per 32 inputs, 2 per 16
//   kOffset  subtracted from every code, through the sum of the activations
//   kWide    codes hold value + 128, and kOffset is 128
//   kAsked   one row is faster with its weights asked for ahead even where kFetchesAlone
//   kExact   1.5 * 2^23 times a scale is a float: scales are a float16 times an integer of at most 8 bits

struct Side {
  Floats scale[2], minimum[2];
};

template <bool Pair, int Minima, int Offset, bool Exact = true>
struct Traits {
  static constexpr bool kPair = Pair, kWide = Offset == 128, kExact = Exact, kAsked = false;
  static constexpr int kMinima = Minima, kOffset = Offset;
};

inline void nibbles(const uint8_t* p, Codes c[8]) {
  for (int i = 0; i < 4; ++i) {
    const Codes both = load_codes(p + 64 * i);
    c[2 * i] = low_bits(both, 15);
    c[2 * i + 1] = low_bits(shift_right<4>(both), 15);
  }
}
// Bits at `From` moved to `To`; what stands beside them is for the caller to mask.
template <int From, int To>
inline Codes move_bits(Codes c) {
  if constexpr (From == To) return c;
  else if constexpr (From > To) return shift_right<From - To>(c);
  else return shift_left<To - From>(c);
}
// One vector holds bit i of code vector i; each is added at `Bit`.
template <int Bit>
inline void bit_plane(const uint8_t* p, Codes c[8]) {
  const Codes plane = load_codes(p);
  c[0] = add_bits(c[0], move_bits<0, Bit>(plane), 1 << Bit);
  c[1] = add_bits(c[1], move_bits<1, Bit>(plane), 1 << Bit);
  c[2] = add_bits(c[2], move_bits<2, Bit>(plane), 1 << Bit);
  c[3] = add_bits(c[3], move_bits<3, Bit>(plane), 1 << Bit);
  c[4] = add_bits(c[4], move_bits<4, Bit>(plane), 1 << Bit);
  c[5] = add_bits(c[5], move_bits<5, Bit>(plane), 1 << Bit);
  c[6] = add_bits(c[6], move_bits<6, Bit>(plane), 1 << Bit);
  c[7] = add_bits(c[7], move_bits<7, Bit>(plane), 1 << Bit);
}
// Two vectors hold code vectors 0-3 and 4-7, two bits each; calls use(i, vector, mask) with them moved to `Bit`.
template <int Bit, class Use>
inline void bit_pairs(const uint8_t* p, Use use) {
  for (int h = 0; h < 2; ++h) {
    const Codes four = load_codes(p + 64 * h);
    use(4 * h, move_bits<0, Bit>(four), 3 << Bit);
    use(4 * h + 1, move_bits<2, Bit>(four), 3 << Bit);
    use(4 * h + 2, move_bits<4, Bit>(four), 3 << Bit);
    use(4 * h + 3, move_bits<6, Bit>(four), 3 << Bit);
  }
}
inline void lookup_all(const uint8_t* table, Codes c[8]) {
  for (int i = 0; i < 8; ++i) c[i] = lookup(table, c[i]);
}
inline void load_wide(const uint8_t* p, Codes c[8]) {
  for (int i = 0; i < 8; ++i) c[i] = load_codes(p + 64 * i);
}
inline const uint16_t* halves(const uint8_t* p) { return reinterpret_cast<const uint16_t*>(p); }
inline const float* floats(const uint8_t* p) { return reinterpret_cast<const float*>(p); }

// The values of the non-linear 4-bit codes, plus 128.
alignas(16) inline constexpr uint8_t kIq4Values[16] = {1,   24,  45,  63,  79,  93,  106, 118,
                                                       129, 141, 153, 166, 181, 197, 217, 241};
// Twice the values of MXFP4, plus 16.
alignas(16) inline constexpr uint8_t kMxfp4Values[16] = {16, 17, 18, 19, 20, 22, 24, 28, 16, 15, 14, 13, 12, 10, 8, 4};

struct Q8_0 : Traits<false, 0, 128> {  // d f16 | codes
  static constexpr int kInputs = 32, kBytes = 32 + 512;
  void begin(const uint8_t*) {}
  void block(const uint8_t* p, int, Codes c[8], Side& s) const {
    s.scale[0] = load_half(halves(p));
    load_wide(p + 32, c);
  }
};
struct Q4_0 : Traits<false, 0, 8> {  // d f16 | nibbles
  static constexpr int kInputs = 32, kBytes = 32 + 256;
  void begin(const uint8_t*) {}
  void block(const uint8_t* p, int, Codes c[8], Side& s) const {
    s.scale[0] = load_half(halves(p));
    nibbles(p + 32, c);
  }
};
struct Q4_1 : Traits<false, 1, 0> {  // d f16 | m f16 | nibbles
  static constexpr int kInputs = 32, kBytes = 64 + 256;
  void begin(const uint8_t*) {}
  void block(const uint8_t* p, int, Codes c[8], Side& s) const {
    s.scale[0] = load_half(halves(p));
    s.minimum[0] = sub(zero(), load_half(halves(p + 32)));
    nibbles(p + 64, c);
  }
};
struct Q5_0 : Traits<false, 0, 16> {  // d f16 | nibbles | bit 4
  static constexpr int kInputs = 32, kBytes = 32 + 256 + 64;
  void begin(const uint8_t*) {}
  void block(const uint8_t* p, int, Codes c[8], Side& s) const {
    s.scale[0] = load_half(halves(p));
    nibbles(p + 32, c);
    bit_plane<4>(p + 288, c);
  }
};
struct Q5_1 : Traits<false, 1, 0> {  // d f16 | m f16 | nibbles | bit 4
  static constexpr int kInputs = 32, kBytes = 64 + 256 + 64;
  void begin(const uint8_t*) {}
  void block(const uint8_t* p, int, Codes c[8], Side& s) const {
    s.scale[0] = load_half(halves(p));
    s.minimum[0] = sub(zero(), load_half(halves(p + 32)));
    nibbles(p + 64, c);
    bit_plane<4>(p + 320, c);
  }
};
struct IQ4_NL : Traits<false, 0, 128> {  // d f16 | nibbles
  static constexpr int kInputs = 32, kBytes = 32 + 256;
  void begin(const uint8_t*) {}
  void block(const uint8_t* p, int, Codes c[8], Side& s) const {
    s.scale[0] = load_half(halves(p));
    nibbles(p + 32, c);
    lookup_all(kIq4Values, c);
  }
};
struct MXFP4 : Traits<false, 0, 16, false> {  // e8m0 u8 | nibbles
  static constexpr int kInputs = 32, kBytes = 16 + 256;
  void begin(const uint8_t*) {}
  void block(const uint8_t* p, int, Codes c[8], Side& s) const {
    s.scale[0] = load_e8m0_half(p);
    nibbles(p + 16, c);
    lookup_all(kMxfp4Values, c);
  }
};
struct I8 : Traits<true, 0, 128, false> {  // scales f32 x 2 | codes
  static constexpr int kInputs = 32, kBytes = 128 + 512;
  void begin(const uint8_t*) {}
  void block(const uint8_t* p, int, Codes c[8], Side& s) const {
    s.scale[0] = load(floats(p));
    s.scale[1] = load(floats(p + 64));
    load_wide(p + 128, c);
  }
};
struct Q4_K : Traits<false, 1, 0> {  // d f16 | dmin f16 | 8 scales u8 | 8 minima u8 | nibbles
  static constexpr int kInputs = 256, kBytes = 64 + 256 + 2048;
  Floats d, dmin;
  void begin(const uint8_t* p) {
    d = load_half(halves(p));
    dmin = load_half(halves(p + 32));
  }
  void block(const uint8_t* p, int j, Codes c[8], Side& s) const {
    s.scale[0] = mul(d, load_u8(p + 64 + 16 * j));
    s.minimum[0] = mul(dmin, load_u8(p + 192 + 16 * j));
    nibbles(p + 320 + 256 * j, c);
  }
};
struct Q5_K : Traits<false, 1, 0> {  // as Q4_K | bit 4
  static constexpr int kInputs = 256, kBytes = 64 + 256 + 2048 + 512;
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
};
struct Q6_K : Traits<true, 0, 32> {  // d f16 | 16 scales i8 | 8 x (nibbles, bit pairs)
  static constexpr int kInputs = 256, kBytes = 32 + 256 + 2048 + 1024;
  static constexpr bool kAsked = true;
  Floats d;
  void begin(const uint8_t* p) { d = load_half(halves(p)); }
  void block(const uint8_t* p, int j, Codes c[8], Side& s) const {
    s.scale[0] = mul(d, load_i8(p + 32 + 32 * j));
    s.scale[1] = mul(d, load_i8(p + 32 + 32 * j + 16));
    const uint8_t* codes = p + 288 + 384 * j;
    nibbles(codes, c);
    bit_pairs<4>(codes + 256, [&](int i, Codes high, int mask) { c[i] = add_bits(c[i], high, mask); });
  }
};
// Codes are unpacked to eight times their value, so that the offset is the one of Q6_K; an eighth of d makes up for it.
struct Q3_K : Traits<true, 0, 32> {  // d f16 | 16 scales i8 | 8 x (bit pairs, bit 2)
  static constexpr int kInputs = 256, kBytes = 32 + 256 + 1024 + 512;
  Floats d;
  void begin(const uint8_t* p) { d = mul(load_half(halves(p)), splat(0.125f)); }
  void block(const uint8_t* p, int j, Codes c[8], Side& s) const {
    s.scale[0] = mul(d, load_i8(p + 32 + 32 * j));
    s.scale[1] = mul(d, load_i8(p + 32 + 32 * j + 16));
    const uint8_t* codes = p + 288 + 192 * j;
    bit_pairs<3>(codes, [&](int i, Codes low, int mask) { c[i] = low_bits(low, mask); });
    bit_plane<5>(codes + 128, c);
  }
};
struct Q2_K : Traits<true, 2, 0> {  // d f16 | dmin f16 | 16 x (scale, minimum) nibbles | bit pairs
  static constexpr int kInputs = 256, kBytes = 64 + 256 + 1024;
  Floats d, dmin;
  void begin(const uint8_t* p) {
    d = load_half(halves(p));
    dmin = load_half(halves(p + 32));
  }
  void block(const uint8_t* p, int j, Codes c[8], Side& s) const {
    for (int h = 0; h < 2; ++h) {
      const uint8_t* both = p + 64 + 32 * j + 16 * h;
      s.scale[h] = mul(d, load_low_nibbles(both));
      s.minimum[h] = mul(dmin, load_high_nibbles(both));
    }
    bit_pairs<0>(p + 320 + 128 * j, [&](int i, Codes low, int mask) { c[i] = low_bits(low, mask); });
  }
};
struct IQ4_XS : Traits<false, 0, 128> {  // d f16 | 8 scales i8 | nibbles
  static constexpr int kInputs = 256, kBytes = 32 + 128 + 2048;
  Floats d;
  void begin(const uint8_t* p) { d = load_half(halves(p)); }
  void block(const uint8_t* p, int j, Codes c[8], Side& s) const {
    s.scale[0] = mul(d, load_i8(p + 32 + 16 * j));
    nibbles(p + 160 + 256 * j, c);
    lookup_all(kIq4Values, c);
  }
};

// 16 and 32 bit weights: one input of 16 rows at a time.
struct PlainF32 {
  static constexpr int kInputs = 1, kBytes = 64;
  static Floats weights(const uint8_t* p) { return load(floats(p)); }
};
struct PlainF16 {
  static constexpr int kInputs = 1, kBytes = 32;
  static Floats weights(const uint8_t* p) { return load_half(halves(p)); }
};
struct PlainBF16 {
  static constexpr int kInputs = 1, kBytes = 32;
  static Floats weights(const uint8_t* p) { return load_bfloat(halves(p)); }
};

// Calls `floating` with the 16 and 32 bit formats and `quantised` with the others.
template <class Floating, class Quantised>
inline void with_format(Layout layout, Floating&& floating, Quantised&& quantised) {
  switch (layout) {
    case Layout::F32: return floating(PlainF32{});
    case Layout::F16: return floating(PlainF16{});
    case Layout::BF16: return floating(PlainBF16{});
    case Layout::Q8_0: return quantised(Q8_0{});
    case Layout::Q4_0: return quantised(Q4_0{});
    case Layout::Q4_1: return quantised(Q4_1{});
    case Layout::Q5_0: return quantised(Q5_0{});
    case Layout::Q5_1: return quantised(Q5_1{});
    case Layout::IQ4_NL: return quantised(IQ4_NL{});
    case Layout::MXFP4: return quantised(MXFP4{});
    case Layout::Q2_K: return quantised(Q2_K{});
    case Layout::Q3_K: return quantised(Q3_K{});
    case Layout::Q4_K: return quantised(Q4_K{});
    case Layout::Q5_K: return quantised(Q5_K{});
    case Layout::Q6_K: return quantised(Q6_K{});
    case Layout::IQ4_XS: return quantised(IQ4_XS{});
    case Layout::I8: return quantised(I8{});
    case Layout::Count: return;
  }
}
