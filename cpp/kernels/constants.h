// Sizes that kernels, operations and callers agree on. Python asks for those it needs: see bindings/module.cpp.
#pragma once

#include <cstdint>

namespace loqal {

constexpr int kRows = 16;                        // output rows in a panel
constexpr int kPanels = 2;                       // panels a kernel takes at a time
constexpr int kTileRows = 128;                   // activation rows a kernel takes at a time, so that they stay in the
                                                 // second-level cache while all panels of a thread pass over them
constexpr int kRun = 32;                         // inputs that share an activation scale
constexpr int kSpan = 512;                       // key positions per attention span
constexpr int kPage = 64;                        // key positions per page
constexpr int kQueryRows = 4;                    // query rows that attend together
constexpr int kKeys = 16;                        // key positions in vector lanes
constexpr int kDeltaHeadDim = 128;               // of keys and values of a recurrent head
constexpr int kConvWidth = 4;                    // taps of the convolution before a recurrent mixer
constexpr int kConvTail = kConvWidth - 1;        // inputs of the convolution that a slot keeps
constexpr int kStateTile = 32;                   // value columns of a recurrent state that lie together
constexpr int kChunk = 32;                       // tokens the delta kernel keeps in its buffers
constexpr int kJournalRows = 8;                  // tokens a step may leave out of a recurrent state
constexpr int kPeakRows = 16, kPeakChains = 16;  // inputs of the loops that measure a peak

constexpr int kKvBlock = 64;                               // dimensions of a key or value of 8 bits that share a scale
constexpr int kVisionSpan = 512;                           // patches per span of vision attention
constexpr int kVisionTiles = 4;                            // most tiles of queries in a task
constexpr int kMaxVisionDim = 128;                         // of a vision head
constexpr int kMaxFloatColumns = 12, kMaxFloatPanels = 2;  // of a register tile of float products, over all tables

// The bits of 1.5 * 2^23. An integer below 2^22 in magnitude added to them gives the bits of the float 1.5 * 2^23 plus
// that integer: a dot that starts here needs no conversion.
constexpr int32_t kSumBase = 0x4b400000;

}  // namespace loqal
