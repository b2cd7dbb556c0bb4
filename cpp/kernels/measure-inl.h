// What this instruction set can do at best, in the kernels' own vectors: the yardstick for their speed.
//
// Every loop depends on all it reads and hands its result back, so that the compiler can leave nothing out.

// Reads whole groups of 256 bytes, once each.
uint8_t read_bytes(const uint8_t* p, int64_t bytes, bool prefetches) {
  Codes seen[4];
  for (int i = 0; i < 4; ++i) seen[i] = load_codes(p + 64 * i);
  for (int64_t at = 256; at + 256 <= bytes; at += 256) {
    if (prefetches) prefetch(p + at + kAhead, 256);
    for (int i = 0; i < 4; ++i) seen[i] = either(seen[i], load_codes(p + at + 64 * i));
  }
  uint8_t all[64], result = 0;
  store_codes(all, either(either(seen[0], seen[1]), either(seen[2], seen[3])));
  for (uint8_t byte : all) result |= byte;
  return result;
}

// N independent chains: enough to hide the latency of one product, few enough to stay in registers. Weights stay in a
// register, inputs are broadcast from memory, as in the kernels.
template <int N>
int32_t dot_chains(const uint8_t* codes, const int32_t* inputs, int64_t rounds) {
  const Codes w = load_codes(codes);
  Ints acc[N];
  for (int i = 0; i < N; ++i) acc[i] = splat_int(0);
  for (int64_t round = 0; round < rounds; ++round) {
    const int32_t* x = inputs + round % kPeakRows * kPeakChains;
    for (int i = 0; i < N; ++i) acc[i] = dot4(acc[i], w, x[i]);
  }
  for (int i = 1; i < N; ++i) acc[0] = add(acc[0], acc[i]);
  return static_cast<int32_t>(sum(to_floats(acc[0])));
}
template <int N>
float fma_chains(const float* weights, const float* inputs, int64_t rounds) {
  const Floats w = load(weights);
  Floats acc[N];
  for (int i = 0; i < N; ++i) acc[i] = zero();
  for (int64_t round = 0; round < rounds; ++round) {
    const float* x = inputs + round % kPeakRows * kPeakChains;
    for (int i = 0; i < N; ++i) acc[i] = fma(w, splat(x[i]), acc[i]);
  }
  for (int i = 1; i < N; ++i) acc[0] = add(acc[0], acc[i]);
  return sum(acc[0]);
}

// How many chains suit best differs: a set has 16 or 32 registers, and a vector takes one, two or four of them.
int32_t dot_peak(int chains, const uint8_t* codes, const int32_t* inputs, int64_t rounds) {
  switch (chains) {
    case 4: return dot_chains<4>(codes, inputs, rounds);
    case 6: return dot_chains<6>(codes, inputs, rounds);
    case 12: return dot_chains<12>(codes, inputs, rounds);
    default: return dot_chains<16>(codes, inputs, rounds);
  }
}
float fma_peak(int chains, const float* weights, const float* inputs, int64_t rounds) {
  switch (chains) {
    case 4: return fma_chains<4>(weights, inputs, rounds);
    case 6: return fma_chains<6>(weights, inputs, rounds);
    case 12: return fma_chains<12>(weights, inputs, rounds);
    default: return fma_chains<16>(weights, inputs, rounds);
  }
}
