#include "backend/cpu/onednn.h"

#include "mpsnn/error.h"

#if DNNL_CPU_RUNTIME == DNNL_RUNTIME_THREADPOOL
#include <oneapi/dnnl/dnnl_threadpool.hpp>
#endif

namespace mpsnn::backend::cpu {

#if DNNL_CPU_RUNTIME == DNNL_RUNTIME_THREADPOOL
namespace {

// The team of the calling queue thread, as oneDNN wants to see it.
class Team final : public dnnl::threadpool_interop::threadpool_iface {
 public:
  int get_num_threads() const override { return threads::team(); }
  bool get_in_parallel() const override { return inside_; }
  uint64_t get_flags() const override { return 0; }
  void wait() override {}
  void parallel_for(int n, const std::function<void(int, int)>& body) override {
    threads::parallel_for(n, 1, [&](int64_t begin, int64_t end) {
      inside_ = true;
      for (int64_t i = begin; i < end; ++i) body(static_cast<int>(i), n);
      inside_ = false;
    });
  }

 private:
  static thread_local bool inside_;
};
thread_local bool Team::inside_ = false;

}  // namespace

dnnl::stream& stream() {
  static dnnl::stream& s =
      *new dnnl::stream(dnnl::threadpool_interop::make_stream(engine(), new Team));
  return s;
}

void announce_team() {
  if (dnnl_threadpool_interop_set_max_concurrency(threads::team()) != dnnl_success)
    throw DeviceError("oneDNN cannot work with " + std::to_string(threads::team()) + " threads");
}
#else
dnnl::stream& stream() {
  static dnnl::stream& s = *new dnnl::stream(engine());
  return s;
}

void announce_team() {}  // OpenMP's is known
#endif

dnnl::engine& engine() {
  static dnnl::engine& e = *new dnnl::engine(dnnl::engine::kind::cpu, 0);
  return e;
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
  arguments_.push_back({argument, memory.get()});
}

void Primitive::run() {
  for (auto& [ref, memory] : places_) memory.set_data_handle(ref.get());
  // Not primitive::execute, which gathers its arguments in a new list at each call.
  dnnl::error::wrap_c_api(
      dnnl_primitive_execute(primitive_.get(), stream().get(), static_cast<int>(arguments_.size()),
                             arguments_.data()),
      "could not execute a primitive");
}

Primitive reorder(Builder& b, const dnnl::memory::desc& from, runtime::Ref source,
                  const dnnl::memory::desc& to, runtime::Ref target) {
  const dnnl::reorder::primitive_desc descriptor(engine(), from, engine(), to, user_scratchpad());
  Primitive p = Primitive::make(b, descriptor, dnnl::reorder(descriptor));
  p.bind(DNNL_ARG_FROM, from, source);
  p.bind(DNNL_ARG_TO, to, target);
  return p;
}

}  // namespace mpsnn::backend::cpu
