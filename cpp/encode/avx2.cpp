#define LOQAL_ENCODE encode_avx2_detail
#include "encode/formats-inl.h"

namespace loqal {
const EncodeTable& encode_avx2() { return encode_avx2_detail::kTable; }
}  // namespace loqal
