#define LOQAL_ENCODE encode_plain_detail
#include "encode/formats-inl.h"

namespace loqal {
const EncodeTable& encode_plain() { return encode_plain_detail::kTable; }
}  // namespace loqal
