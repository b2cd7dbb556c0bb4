#define LOQAL_ENCODE encode_avx512_detail
#include "encode/formats-inl.h"

namespace loqal {
const EncodeTable& encode_avx512() { return encode_avx512_detail::kTable; }
}  // namespace loqal
