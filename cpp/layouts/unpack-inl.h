// What layouts give up their weights with: for 32 inputs of 16 rows, eight vectors of codes and the scales.
//
// weight = scale * (code - offset) - minimum. Code vector i of a block of 32 inputs holds inputs 4i .. 4i+3 of all 16
// rows. Packed order of nibbles: byte vector i holds code vectors 2i (low) and 2i+1 (high).
//
//   kPair    two scales per 32 inputs, one for each half
//   kMinima  0 none, 1 per 32 inputs, 2 per 16
//   kOffset  subtracted from every code, through the sum of the activations
//   kWide    codes hold value + 128, and kOffset is 128
//   kExact   1.5 * 2^23 times a scale is a float: scales are a float16 times an integer of at most 8 bits
//   kPrefetchSingle  one activation row is faster with its weights prefetched, whatever the processor does by itself

struct Side {
  Floats scale[2], minimum[2];
};

template <bool Pair, int Minima, int Offset, bool Exact = true>
struct Traits {
  static constexpr bool kPair = Pair, kWide = Offset == 128, kExact = Exact, kPrefetchSingle = false;
  static constexpr bool kQuantized = true;
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
