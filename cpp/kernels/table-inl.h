// The table of one instruction set.

inline KernelTable make_table(const char* name) {
  KernelTable t{};
  t.name = name;
  t.quantize = quantize;
#define LOQAL_PANELS(name) t.multiply_panels[static_cast<int>(Layout::name)] = multiply_panels<name>;
  LOQAL_LAYOUTS(LOQAL_PANELS)
#undef LOQAL_PANELS
  t.rms_norm = rms_norm;
  t.silu_mul = silu_mul;
  t.sigmoid_mul = sigmoid_mul;
  t.softmax = softmax;
  t.delta = delta;
  t.prepare_query = prepare_query;
  t.store_key_value = store_key_value;
  t.attend_span = attend_span;
  t.merge = merge;
  t.finish = finish;
  t.log_sum_exp = log_sum_exp;
  t.read_row = read_row;
  t.float_columns = kFloatColumns;
  t.float_panels = kFloatPanels;
  t.pack_columns = pack_columns;
  t.float_block = float_block;
  t.layer_norm = layer_norm;
  t.add_bias = add_bias;
  t.gelu = gelu;
  t.pack_head = pack_head;
  t.vision_attention = vision_attention;
  t.read_bytes = read_bytes;
  t.dot_peak = dot_peak;
  t.fma_peak = fma_peak;
  return t;
}
