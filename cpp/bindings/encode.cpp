// The encoders as Python sees them; see ops/backends/native_encoder.py, their only caller.
#include "bindings/bindings.h"

#include <memory>
#include <optional>
#include <string>

#include "base/threads.h"
#include "encode/encode.h"
#include "targets/dispatch.h"

namespace loqal::python {
namespace {

template <class T>
using Flat = nb::ndarray<const T, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Bytes = nb::ndarray<uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

class Encoder {
 public:
  Encoder(const std::string& isa, int threads) : table_(encode_table(isa.c_str())), pool_(threads) {}

  // Values in F32, F16 or BF16, as bytes; importance of the columns, or none; blocks out.
  // Returns squared, weighted, energy, weighted energy, storable; see EncodeErrors.
  std::tuple<double, double, double, double, bool> encode(const std::string& format, const std::string& source,
                                                          Flat<uint8_t> values, Flat<float> importance, int64_t cols,
                                                          Bytes out) {
    const EncodeFormat* entry = find_encode_format(table_, format.c_str());
    if (entry == nullptr) throw nb::value_error(("encode: no native encoder for " + format).c_str());
    const bool wide = source == "F32";
    if (!wide && source != "F16" && source != "BF16") throw nb::value_error("encode: source should be a float format");
    const auto count = static_cast<int64_t>(values.shape(0)) / (wide ? 4 : 2);
    const auto weights = static_cast<int64_t>(importance.shape(0));
    if (cols <= 0 || count % cols != 0 || cols % entry->block_len != 0)
      throw nb::value_error("encode: rows are not whole blocks");
    if (weights != 0 && weights != cols) throw nb::value_error("encode: importance should be [cols]");
    if (static_cast<int64_t>(out.shape(0)) != count / entry->block_len * entry->block_bytes)
      throw nb::value_error("encode: out does not hold the blocks");
    const EncodeSource kind = wide ? EncodeSource::F32 : source == "F16" ? EncodeSource::F16 : EncodeSource::BF16;
    const EncodePiece whole{kind,  values.data(), weights != 0 ? importance.data() : nullptr, cols, 0,
                            count, out.data()};
    EncodeErrors e;
    {
      nb::gil_scoped_release release;
      e = loqal::encode(pool_, *entry, whole);
    }
    return {e.squared, e.weighted, e.energy, e.weighted_energy, e.storable};
  }

  std::vector<std::string> formats() const {
    std::vector<std::string> names;
    for (size_t i = 0; i < table_.count; ++i) names.emplace_back(table_.formats[i].name);
    return names;
  }

 private:
  const EncodeTable& table_;
  ThreadPool pool_;
};

}  // namespace

void bind_encode(nb::module_& m) {
  nb::class_<Encoder>(m, "Encoder", "The encoders of weight formats, with a pool of threads of their own.")
      .def(nb::init<const std::string&, int>(), "isa"_a, "threads"_a)
      .def_prop_ro("formats", &Encoder::formats)
      .def("encode", &Encoder::encode, "format"_a, "source"_a, "values"_a, "importance"_a, "cols"_a, "out"_a,
           "Stores `values` (the bytes of F32, F16 or BF16 numbers, whole rows of `cols`) as blocks in `out`; "
           "importance is "
           "[cols], or empty. Returns squared, weighted, energy, weighted energy, storable.");
}

}  // namespace loqal::python
