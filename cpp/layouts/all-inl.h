// All layouts over the sixteen lanes included before: what kernels unpack and, over the lanes of plain C++, what
// packing writes. No include guard, see kernels/all-inl.h. A new layout is a header here and a row in layout.h.
// clang-format off
#include "layouts/unpack-inl.h"
#include "layouts/pack-inl.h"
#include "layouts/floats-inl.h"
#include "layouts/q8_0-inl.h"
#include "layouts/q4_0-inl.h"
#include "layouts/q4_1-inl.h"
#include "layouts/q5_0-inl.h"
#include "layouts/q5_1-inl.h"
#include "layouts/iq4_nl-inl.h"
#include "layouts/mxfp4-inl.h"
#include "layouts/q2_k-inl.h"
#include "layouts/q3_k-inl.h"
#include "layouts/q4_k-inl.h"
#include "layouts/q5_k-inl.h"
#include "layouts/q6_k-inl.h"
#include "layouts/iq4_xs-inl.h"
#include "layouts/i8-inl.h"
// clang-format on

// Calls use with the struct of a layout.
template <class Use>
inline void with_layout(Layout layout, Use&& use) {
  switch (layout) {
#define LOQAL_CASE(name) \
  case Layout::name: return use(name{});
    LOQAL_LAYOUTS(LOQAL_CASE)
#undef LOQAL_CASE
    case Layout::Count: return;
  }
}
