// oneDNN primitives bound to values: made once, run each step without an allocation of ours.
#pragma once

#include <oneapi/dnnl/dnnl.hpp>
#include <string>
#include <utility>
#include <vector>

#include "backend/cpu/cpu.h"

namespace mpsnn::backend::cpu {

dnnl::engine& engine();
dnnl::stream& stream();
void announce_team();  // before primitives are made: they are cut for the caller's team
std::string onednn_version();
dnnl::primitive_attr user_scratchpad();

class Primitive {
 public:
  Primitive() = default;
  template <class Descriptor, class Kind>
  static Primitive make(Builder& b, const Descriptor& descriptor, Kind primitive) {
    Primitive p;
    p.primitive_ = std::move(primitive);
    p.name_ = descriptor.impl_info_str();
    const auto scratchpad = descriptor.scratchpad_desc();
    if (scratchpad.get_size() > 0)
      p.bind(DNNL_ARG_SCRATCHPAD, scratchpad, b.scratch(scratchpad.get_size()));
    return p;
  }
  void bind(int argument, const dnnl::memory::desc& desc, runtime::Ref ref);
  void run();
  explicit operator bool() const { return primitive_.get(true) != nullptr; }
  const std::string& name() const { return name_; }

 private:
  dnnl::primitive primitive_;
  std::string name_;
  std::vector<dnnl_exec_arg_t> arguments_;  // of places_
  std::vector<std::pair<runtime::Ref, dnnl::memory>> places_;
};

// C (m x n) = A (m x k) B (k x n) [+ bias (n)]; without descriptors all are float32.
Primitive product(Builder& b, const dnnl::memory::desc& da, runtime::Ref a,
                  const dnnl::memory::desc& db, runtime::Ref bb, runtime::Ref bias,
                  const dnnl::memory::desc& dc, runtime::Ref c);
Primitive product(Builder& b, int64_t m, int64_t n, int64_t k, dnnl::memory::format_tag ta,
                  runtime::Ref a, dnnl::memory::format_tag tb, runtime::Ref bb, runtime::Ref bias,
                  runtime::Ref c);

Primitive reorder(Builder& b, const dnnl::memory::desc& from, runtime::Ref source,
                  const dnnl::memory::desc& to, runtime::Ref target);

}  // namespace mpsnn::backend::cpu
