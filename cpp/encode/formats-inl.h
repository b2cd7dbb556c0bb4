// The encoders of one instruction set: load sixteen runs, search, write blocks, sum what was lost. Include once a file,
// after defining LOQAL_ENCODE as the namespace.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "base/float16.h"
#include "layouts/iq4_levels.h"
// Over the table above.
#include "encode/blocks-inl.h"
#include "encode/encode.h"

namespace loqal {
namespace LOQAL_ENCODE {

constexpr float kLargest = 65504.0f;  // of float16

inline float value_at(const EncodePiece& p, int64_t i) {
  if (p.source == EncodeSource::F32) return static_cast<const float*>(p.values)[i];
  const uint16_t raw = static_cast<const uint16_t*>(p.values)[i];
  if (p.source == EncodeSource::F16) return float16_value(raw);
  const uint32_t bits = static_cast<uint32_t>(raw) << 16;
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}

// Up to sixteen runs as they are in the tensor; lanes without a run are zero.
template <int L>
struct Group {
  Runs<L> runs;
  float plain[kLanes * L];       // the values in order
  float importance[kLanes * L];  // 1 without
  uint8_t codes[kLanes * L];     // in order
  V stored[L];                   // what the codes stand for
  int values;                    // that exist
};

template <int L>
void load(const EncodePiece& p, int64_t at, Group<L>& g, EncodeErrors& errors) {
  g.values = static_cast<int>(std::min<int64_t>(kLanes * L, p.first + p.count - at));
  for (int i = 0; i < g.values; ++i) {
    const float x = value_at(p, at + i);
    errors.storable = errors.storable && std::fabs(x) <= kLargest;
    g.plain[i] = std::fabs(x) <= kLargest ? x : 0;
  }
  for (int i = g.values; i < kLanes * L; ++i) g.plain[i] = 0;
  for (int i = 0; i < kLanes * L; ++i) g.importance[i] = 1;
  if (p.importance != nullptr) {
    int64_t col = at % p.cols;
    for (int i = 0; i < g.values; ++i) {
      g.importance[i] = p.importance[col];
      if (++col == p.cols) col = 0;
    }
  }
  for (int l = 0; l < L; ++l)
    for (int lane = 0; lane < kLanes; ++lane) g.runs.x[l][lane] = g.plain[lane * L + l];
  if (p.importance != nullptr) {
    // A column nothing passed through still counts a little: the text that was seen is not all there is.
    float mean = 0;
    for (float value : g.importance) mean += value;
    const float least = 1e-4f * mean / (kLanes * L) + 1e-30f;
    for (int l = 0; l < L; ++l)
      for (int lane = 0; lane < kLanes; ++lane) g.runs.w[l][lane] = g.importance[lane * L + l] + least;
    return;
  }
  // Large weights matter more to a dot product: an error counts by the size of the value plus the run's typical size.
  V square = splat(0);
  for (int l = 0; l < L; ++l) square += g.runs.x[l] * g.runs.x[l];
  for (int lane = 0; lane < kLanes; ++lane) square[lane] = std::sqrt(square[lane] / L);
  for (int l = 0; l < L; ++l) g.runs.w[l] = square + size_of(g.runs.x[l]);
}

template <int L>
void note_codes(Group<L>& g, int l, V code, V stored) {
  g.stored[l] = stored;
  for (int lane = 0; lane < kLanes; ++lane) g.codes[lane * L + l] = static_cast<uint8_t>(code[lane]);
}

template <class Levels, int L>
void codes_of_scale(Group<L>& g, V step) {
  const V factor = reciprocal(step);
  for (int l = 0; l < L; ++l) {
    const V level = Levels::level(g.runs.x[l] * factor);
    note_codes(g, l, Levels::code(level), step * level);
  }
}

template <int L>
void add_errors(const Group<L>& g, EncodeErrors& errors) {
  V squared = splat(0), weighted = splat(0), energy = splat(0), weighted_energy = splat(0);
  for (int l = 0; l < L; ++l) {
    V importance;
    for (int lane = 0; lane < kLanes; ++lane) importance[lane] = g.importance[lane * L + l];
    const V x = g.runs.x[l], off = x - g.stored[l];
    squared += off * off;
    weighted += importance * off * off;
    energy += x * x;
    weighted_energy += importance * x * x;
  }
  for (int lane = 0; lane < kLanes; ++lane) {
    errors.squared += squared[lane];
    errors.weighted += weighted[lane];
    errors.energy += energy[lane];
    errors.weighted_energy += weighted_energy[lane];
  }
}

// Calls encode_group(group, out of its first block, blocks in it) for all groups of a piece.
template <int L, int kBlockLen, int kBlockBytes, class Encode>
EncodeErrors each_group(const EncodePiece& p, const Encode& encode_group) {
  EncodeErrors errors;
  Group<L> g;
  for (int64_t at = p.first; at < p.first + p.count; at += kLanes * L) {
    load(p, at, g, errors);
    encode_group(g, p.out + at / kBlockLen * kBlockBytes, g.values / kBlockLen);
    add_errors(g, errors);
  }
  return errors;
}

// The formats -----------------------------------------------------------------------------------------------------

struct Nearest8 {  // round half away from zero, as every tool writes Q8_0
  static V level(V x) {
    const V size = size_of(x), whole = floor_of(lower(size, splat(127.0f)));
    const V rounded = size - whole >= 0.5f ? lower(whole + 1.0f, splat(127.0f)) : whole;
    return x < 0 ? -rounded : rounded;
  }
};

EncodeErrors q8_0(const EncodePiece& p) {
  return each_group<32, 32, 34>(p, [](Group<32>& g, uint8_t* out, int blocks) {
    V largest = splat(0);
    for (int l = 0; l < 32; ++l) largest = upper(largest, size_of(g.runs.x[l]));
    const V scale = largest / 127.0f, factor = reciprocal(scale);
    V stored_scale;
    for (int lane = 0; lane < kLanes; ++lane) stored_scale[lane] = as_half(scale[lane]);
    for (int l = 0; l < 32; ++l) {
      const V level = Nearest8::level(g.runs.x[l] * factor);
      g.stored[l] = stored_scale * level;
      for (int lane = 0; lane < kLanes; ++lane)
        g.codes[lane * 32 + l] = static_cast<uint8_t>(static_cast<int8_t>(level[lane]));
    }
    for (int b = 0; b < blocks; ++b) {
      out = put_half(scale[b], out);
      std::memcpy(out, g.codes + b * 32, 32);
      out += 32;
    }
  });
}

template <class Levels>
EncodeErrors blocks_of_32(const EncodePiece& p, int anchors, float apart) {
  return each_group<32, 32, 18>(p, [=](Group<32>& g, uint8_t* out, int blocks) {
    V scale = best_scale<Levels>(g.runs, anchors, apart);
    for (int lane = 0; lane < kLanes; ++lane) scale[lane] = as_half(scale[lane]);
    codes_of_scale<Levels>(g, scale);
    for (int b = 0; b < blocks; ++b) out = pack_bits(g.codes + b * 32, 32, 0, 4, 16, put_half(scale[b], out));
  });
}
EncodeErrors q4_0(const EncodePiece& p) { return blocks_of_32<Whole<-8, 7>>(p, 9, 0.1f); }
EncodeErrors iq4_nl(const EncodePiece& p) { return blocks_of_32<Iq4>(p, 7, 2.0f); }

EncodeErrors iq4_xs(const EncodePiece& p) {
  return each_group<32, 256, 136>(p, [](Group<32>& g, uint8_t* out, int blocks) {
    const auto shared = share_scale<Iq4, 2>(g.runs, best_scale<Iq4>(g.runs, 7, 2.0f), 32);
    codes_of_scale<Iq4>(g, Shared<2>::spread(shared.d) * shared.whole);
    for (int b = 0; b < blocks; ++b) {
      out = put_half(shared.d[b], out);
      int high = 0;
      uint8_t low[4] = {};
      for (int run = 0; run < 8; ++run) {
        const int raised = static_cast<int>(shared.whole[b * 8 + run]) + 32;
        high |= (raised >> 4) << (2 * run);
        low[run / 2] = static_cast<uint8_t>(low[run / 2] | (raised & 15) << (4 * (run % 2)));
      }
      *out++ = static_cast<uint8_t>(high & 255);
      *out++ = static_cast<uint8_t>(high >> 8);
      std::memcpy(out, low, 4);
      out = pack_bits(g.codes + b * 256, 256, 0, 4, 16, out + 4);
    }
  });
}

template <int kLimit, int kScaleLimit, int kBlockBytes, class Pack>
EncodeErrors about_zero(const EncodePiece& p, const Pack& pack) {
  using Levels = Whole<-kLimit, kLimit - 1>;
  return each_group<16, 256, kBlockBytes>(p, [&](Group<16>& g, uint8_t* out, int) {
    const auto shared = share_scale<Levels, 1>(g.runs, best_scale<Levels>(g.runs, 9, 0.1f), kScaleLimit);
    codes_of_scale<Levels>(g, splat(shared.d[0]) * shared.whole);
    pack(g.codes, shared, out);
  });
}
EncodeErrors q3_k(const EncodePiece& p) {
  return about_zero<4, 32, 110>(p, [](const uint8_t* codes, const SharedScale<1>& shared, uint8_t* out) {
    uint8_t raised[16];
    for (int run = 0; run < 16; ++run) raised[run] = static_cast<uint8_t>(shared.whole[run] + 32.0f);
    out = pack_bits(codes, 256, 2, 1, 32, out);
    out = pack_bits(codes, 256, 0, 2, 32, out);
    out = pack_bits(raised, 16, 0, 4, 8, out);
    out = pack_bits(raised, 16, 4, 2, 4, out);
    put_half(shared.d[0], out);
  });
}
EncodeErrors q6_k(const EncodePiece& p) {
  return about_zero<32, 128, 210>(p, [](const uint8_t* codes, const SharedScale<1>& shared, uint8_t* out) {
    out = pack_bits(codes, 256, 0, 4, 64, out);
    out = pack_bits(codes, 256, 4, 2, 32, out);
    for (int run = 0; run < 16; ++run) *out++ = static_cast<uint8_t>(static_cast<int8_t>(shared.whole[run]));
    put_half(shared.d[0], out);
  });
}

template <int L, int kTop, int kTopScale, int kBlockBytes, class Pack>
EncodeErrors above_minimum(const EncodePiece& p, int anchors, float apart, const Pack& pack) {
  constexpr int kRuns = 256 / L, kBlocks = kLanes / kRuns;
  return each_group<L, 256, kBlockBytes>(p, [&](Group<L>& g, uint8_t* out, int blocks) {
    const Affine ideal = best_affine(g.runs, kTop, anchors, apart);
    const auto shared = share_affine<kBlocks>(g.runs, ideal, kTop, kTopScale);
    using S = Shared<kBlocks>;
    const V step = S::spread(shared.d) * shared.scale, offset = S::spread(shared.dmin) * shared.minimum;
    const V factor = reciprocal(step);
    for (int l = 0; l < L; ++l) {
      const V q = nearest(clamp((g.runs.x[l] + offset) * factor, splat(0), splat(kTop)));
      note_codes(g, l, q, step * q - offset);
    }
    for (int b = 0; b < blocks; ++b) {
      uint8_t scales[kRuns], minima[kRuns];
      for (int run = 0; run < kRuns; ++run) {
        scales[run] = static_cast<uint8_t>(shared.scale[b * kRuns + run]);
        minima[run] = static_cast<uint8_t>(shared.minimum[b * kRuns + run]);
      }
      pack(g.codes + b * 256, scales, minima, shared.d[b], shared.dmin[b], out + b * kBlockBytes);
    }
  });
}
EncodeErrors q2_k(const EncodePiece& p) {
  return above_minimum<16, 3, 15, 84>(
      p, 10, 0.1f, [](const uint8_t* codes, const uint8_t* s, const uint8_t* m, float d, float dmin, uint8_t* out) {
        for (int run = 0; run < 16; ++run) *out++ = static_cast<uint8_t>(s[run] | m[run] << 4);
        out = pack_bits(codes, 256, 0, 2, 32, out);
        put_half(dmin, put_half(d, out));
      });
}
EncodeErrors q4_k(const EncodePiece& p) {
  return above_minimum<32, 15, 63, 144>(
      p, 10, 0.1f, [](const uint8_t* codes, const uint8_t* s, const uint8_t* m, float d, float dmin, uint8_t* out) {
        out = pack_scales_and_minima(s, m, put_half(dmin, put_half(d, out)));
        pack_bits(codes, 256, 0, 4, 32, out);
      });
}
EncodeErrors q5_k(const EncodePiece& p) {
  return above_minimum<32, 31, 63, 176>(
      p, 10, 0.1f, [](const uint8_t* codes, const uint8_t* s, const uint8_t* m, float d, float dmin, uint8_t* out) {
        out = pack_scales_and_minima(s, m, put_half(dmin, put_half(d, out)));
        out = pack_bits(codes, 256, 4, 1, 32, out);
        pack_bits(codes, 256, 0, 4, 32, out);
      });
}

const EncodeFormat kFormats[] = {
    {"Q8_0", 32, 34, &q8_0},       {"Q4_0", 32, 18, &q4_0},   {"IQ4_NL", 32, 18, &iq4_nl},
    {"IQ4_XS", 256, 136, &iq4_xs}, {"Q2_K", 256, 84, &q2_k},  {"Q3_K", 256, 110, &q3_k},
    {"Q4_K", 256, 144, &q4_k},     {"Q5_K", 256, 176, &q5_k}, {"Q6_K", 256, 210, &q6_k},
};
const EncodeTable kTable{kFormats, sizeof kFormats / sizeof kFormats[0]};

}  // namespace LOQAL_ENCODE
}  // namespace loqal
