// Stores float weights in the block formats of GGUF: a search for the scales of least weighted error, sixteen runs of
// values in vector lanes. The NumPy encoders in formats/ describe the layouts; these find better scales, faster.
#pragma once

#include <cstddef>
#include <cstdint>

namespace loqal {

class ThreadPool;

enum class EncodeSource : int { F32, F16, BF16 };

// What encoding lost, summed over the values x of a tensor and their stored forms y. The weight of a value is the
// importance of its column, or 1 without.
struct EncodeErrors {
  double squared = 0;          // (x - y)^2
  double weighted = 0;         // weight (x - y)^2
  double energy = 0;           // x^2
  double weighted_energy = 0;  // weight x^2
  bool storable = true;        // no value is NaN or beyond float16
};

// One piece of a tensor: `count` values from the `first`, whole blocks.
struct EncodePiece {
  EncodeSource source;
  const void* values;
  const float* importance;  // of every column, or null
  int64_t cols, first, count;
  uint8_t* out;  // of the whole tensor
};

struct EncodeFormat {
  const char* name;
  int block_len, block_bytes;
  EncodeErrors (*encode)(const EncodePiece&);
};

// The formats of one instruction set; all give the same bytes.
struct EncodeTable {
  const EncodeFormat* formats;
  size_t count;
};
const EncodeTable& encode_plain();
#ifdef LOQAL_ISA_AVX2
const EncodeTable& encode_avx2();
#endif
#ifdef LOQAL_ISA_AVX512_NOVNNI
const EncodeTable& encode_avx512();
#endif

// The table that goes with the kernels called `isa`.
const EncodeTable& encode_table(const char* isa);
const EncodeFormat* find_encode_format(const EncodeTable& table, const char* name);

// Encodes a whole tensor with all threads of the pool.
EncodeErrors encode(ThreadPool& pool, const EncodeFormat& format, const EncodePiece& whole);

}  // namespace loqal
