#include "encode/encode.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "base/threads.h"

namespace loqal {
namespace {

// Values of one task: a whole number of every format's groups, and the same whatever the number of threads, so that the
// sums of errors are too.
constexpr int64_t kTaskValues = 1 << 16;

}  // namespace

const EncodeTable& encode_table([[maybe_unused]] const char* isa) {
#ifdef LOQAL_ISA_AVX512_NOVNNI
  if (std::strncmp(isa, "avx512", 6) == 0) return encode_avx512();
#endif
#ifdef LOQAL_ISA_AVX2
  if (std::strncmp(isa, "avx2", 4) == 0) return encode_avx2();
#endif
  return encode_plain();
}

const EncodeFormat* find_encode_format(const EncodeTable& table, const char* name) {
  for (size_t i = 0; i < table.count; ++i)
    if (std::strcmp(table.formats[i].name, name) == 0) return &table.formats[i];
  return nullptr;
}

EncodeErrors encode(ThreadPool& pool, const EncodeFormat& format, const EncodePiece& whole) {
  const int64_t tasks = (whole.count + kTaskValues - 1) / kTaskValues;
  std::vector<EncodeErrors> parts(static_cast<size_t>(tasks));
  pool.run(tasks, [&](int64_t task, int) {
    EncodePiece piece = whole;
    piece.first = task * kTaskValues;
    piece.count = std::min(kTaskValues, whole.count - piece.first);
    parts[static_cast<size_t>(task)] = format.encode(piece);
  });
  EncodeErrors sum;
  for (const EncodeErrors& part : parts) {
    sum.squared += part.squared;
    sum.weighted += part.weighted;
    sum.energy += part.energy;
    sum.weighted_energy += part.weighted_energy;
    sum.storable = sum.storable && part.storable;
  }
  return sum;
}

}  // namespace loqal
