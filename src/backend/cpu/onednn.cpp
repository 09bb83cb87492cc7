#include "backend/cpu/onednn.h"

namespace mpsnn::backend::cpu {

dnnl::engine& engine() {
  static dnnl::engine& e = *new dnnl::engine(dnnl::engine::kind::cpu, 0);
  return e;
}
dnnl::stream& stream() {
  static dnnl::stream& s = *new dnnl::stream(engine());
  return s;
}

std::string onednn_version() {
  const dnnl_version_t* v = dnnl_version();
  return std::to_string(v->major) + "." + std::to_string(v->minor) + "." + std::to_string(v->patch);
}

dnnl::primitive_attr user_scratchpad() {
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  return attributes;
}

void Primitive::bind(int argument, const dnnl::memory::desc& desc, runtime::Ref ref) {
  dnnl::memory memory(desc, engine(), nullptr);
  places_.emplace_back(ref, memory);
  arguments_.insert_or_assign(argument, memory);
}

void Primitive::run() {
  for (auto& [ref, memory] : places_) memory.set_data_handle(ref.get());
  primitive_.execute(stream(), arguments_);
}

Primitive reorder(Builder& b, const dnnl::memory::desc& from, runtime::Ref source,
                  const dnnl::memory::desc& to, runtime::Ref target) {
  if (from == to) return {};
  const dnnl::reorder::primitive_desc descriptor(engine(), from, engine(), to, user_scratchpad());
  Primitive p = Primitive::make(b, descriptor, dnnl::reorder(descriptor));
  p.bind(DNNL_ARG_FROM, from, source);
  p.bind(DNNL_ARG_TO, to, target);
  return p;
}

}  // namespace mpsnn::backend::cpu
