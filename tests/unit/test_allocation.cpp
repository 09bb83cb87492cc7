// Steps allocate nothing: this program's malloc counts every call of every thread, but for those of
// oneDNN while it executes a primitive, on the queue thread and its team. Live bytes, which include
// these, stay constant.
#include <doctest/doctest.h>

#include <cstdlib>

#ifdef __GLIBC__  // whose own functions have a second name

#include <malloc.h>

#include <array>
#include <atomic>
#include <cerrno>

#include "mpsnn/device.h"
#include "mpsnn/program.h"

namespace {

std::atomic<int64_t> allocations{0}, live{0};
std::atomic<int> executing{0};      // primitives of oneDNN
thread_local bool encodes = false;  // the test's thread, which runs none

void* counted(void* p) {
  if (p != nullptr) live += static_cast<int64_t>(malloc_usable_size(p));
  if (executing == 0 || encodes) ++allocations;
  return p;
}

}  // namespace

extern "C" {
void* __libc_malloc(std::size_t);
void* __libc_calloc(std::size_t, std::size_t);
void* __libc_realloc(void*, std::size_t);
void* __libc_memalign(std::size_t, std::size_t);
void __libc_free(void*);

#define EXPORTED __attribute__((visibility("default"), noinline))
EXPORTED void* malloc(std::size_t n) { return counted(__libc_malloc(n)); }
EXPORTED void* calloc(std::size_t n, std::size_t size) { return counted(__libc_calloc(n, size)); }
EXPORTED void* realloc(void* p, std::size_t n) {
  if (p != nullptr) live -= static_cast<int64_t>(malloc_usable_size(p));
  return counted(__libc_realloc(p, n));
}
EXPORTED void* memalign(std::size_t a, std::size_t n) { return counted(__libc_memalign(a, n)); }
EXPORTED void* aligned_alloc(std::size_t a, std::size_t n) { return memalign(a, n); }
EXPORTED int posix_memalign(void** p, std::size_t a, std::size_t n) {
  *p = memalign(a, n);
  return *p == nullptr ? ENOMEM : 0;
}
EXPORTED void free(void* p) {
  if (p != nullptr) live -= static_cast<int64_t>(malloc_usable_size(p));
  __libc_free(p);
}

#ifdef MPSNN_HAS_CPU
// dnnl.h's function without its types.
int __real_dnnl_primitive_execute(const void*, void*, int, const void*);
int __wrap_dnnl_primitive_execute(const void* primitive, void* stream, int n, const void* list) {
  ++executing;
  const int status = __real_dnnl_primitive_execute(primitive, stream, n, list);
  --executing;
  return status;
}
#endif
}

using namespace mpsnn;

namespace {

constexpr int64_t kBatch = 8;

Attrs attrs(std::initializer_list<std::pair<const char*, Attr>> items) {
  Attrs made;
  for (const auto& [name, value] : items) made.set(name, value);
  return made;
}

// The digits network with every layer of its kind, trained by Adam.
struct Digits {
  Graph graph;
  ProgramOptions options;
  ValueId x, w, conv, loss;

  Digits(const std::string& device, DType dtype) : graph(dtype) {
    options.device = device;
    options.training = true;
    options.optimizer.emplace();
    options.optimizer->kind = OptimizerKind::adam;
    options.optimizer->groups.emplace_back();
    x = graph.add_input("x", {kBatch, 8, 8, 1}, dtype);
    InputSpec labels;
    labels.classes = 10;
    const ValueId t = graph.add_input("t", {kBatch}, DType::int32, labels);
    const Attrs two =
        attrs({{"kernel", std::vector<int64_t>{2, 2}}, {"stride", std::vector<int64_t>{2, 2}}});
    w = trained("0.weight", {16, 3, 3, 1});
    conv =
        add("conv2d", {x, w, trained("0.bias", {16})}, attrs({{"padding", std::string("same")}}));
    ValueId y = add("neuron", {conv}, attrs({{"kind", std::string("relu")}}));
    y = add("max_pool2d", {y}, two);
    y = add("conv2d", {y, trained("3.weight", {32, 3, 3, 16}), trained("3.bias", {32})},
            attrs({{"padding", std::string("same")}}));
    y = add("batch_norm",
            {y, trained("4.weight", {32}), trained("4.bias", {32}), buffer("4.mean", 0),
             buffer("4.var", 1)},
            {});
    y = add("neuron", {y}, attrs({{"kind", std::string("leaky_relu")}, {"a", 0.1}}));
    y = add("prelu", {y, trained("5.weight", {32})}, {});
    y = add("group_norm", {y, trained("6.weight", {32}), trained("6.bias", {32})},
            attrs({{"groups", int64_t{4}}}));
    y = add("local_response_norm", {y},
            attrs({{"size", int64_t{5}}, {"alpha", 1.0}, {"beta", 0.75}, {"k", 1.0}}));
    y = add("local_contrast_norm", {y},
            attrs({{"size", int64_t{3}},
                   {"alpha", 1.0},
                   {"beta", 0.5},
                   {"delta", 0.5},
                   {"p0", 1.0},
                   {"pm", 0.0},
                   {"ps", 1.0}}));
    y = add("pad2d", {y},
            attrs({{"sides", std::vector<int64_t>{1, 1, 1, 1}}, {"mode", std::string("reflect")}}));
    y = add("resize2d", {y},
            attrs({{"size", std::vector<int64_t>{7, 7}}, {"mode", std::string("bilinear")}}));
    y = add("conv_transpose2d", {y, trained("7.weight", {32, 2, 2, 32}), trained("7.bias", {32})},
            {});
    y = add("l2_pool2d", {y}, two);
    y = add("dropout", {y}, attrs({{"rate", 0.2}, {"spatial", true}}));
    y = add("avg_pool2d", {y}, two);
    y = add("flatten", {y}, {});
    y = add("linear", {y, trained("8.weight", {64, 128}), trained("8.bias", {64})}, {});
    y = add("neuron", {y}, attrs({{"kind", std::string("gelu")}}));
    y = add("layer_norm", {y, trained("9.weight", {64}), trained("9.bias", {64})},
            attrs({{"axes", int64_t{1}}}));
    y = add("dropout", {y}, attrs({{"rate", 0.2}}));
    y = add("linear", {y, trained("11.weight", {10, 64}), trained("11.bias", {10})}, {});
    loss = add("softmax_cross_entropy", {y, t}, {});
    const Attrs sigmoid =
        attrs({{"kind", std::string("sigmoid_cross_entropy")}, {"reduction", std::string("sum")}});
    loss = add("total_loss", {loss, add("element_loss", {y, t}, sigmoid)},
               attrs({{"weights", std::vector<double>{1, 0.5}}}));
    options.seeds = {{loss, kNone}};
    options.results = {{"loss", loss, false}, {"w", w, true}, {"conv", conv, true}};
  }

 private:
  ValueId add(const char* op, const std::vector<ValueId>& operands, const Attrs& with) {
    return graph.add(op, operands, with, op + std::to_string(graph.nodes().size()))[0];
  }
  ValueId trained(const char* name, Shape shape) {
    Tensor value(std::move(shape), DType::float32);
    for (int64_t i = 0; i < value.count(); ++i)
      value.as<float>()[i] = 0.1f * static_cast<float>(i * 7 % 11) - 0.5f;
    const auto made = std::make_shared<Parameter>(value.to(master_dtype(graph.dtype())));
    options.optimizer->parameters.emplace_back(made, 0);
    options.optimizer->names.emplace_back(name);
    return graph.add_parameter(name, made);
  }
  ValueId buffer(const char* name, float value) {
    Tensor made({32}, DType::float32);
    for (int i = 0; i < 32; ++i) made.as<float>()[i] = value;
    return graph.add_parameter(
        name, std::make_shared<Parameter>(made.to(master_dtype(graph.dtype())), true));
  }
};

// A graphics device makes objects scoped to the command buffer.
std::vector<Device> host_devices() {
  std::vector<Device> found;
  for (const Device& device : devices())
    if (device.kind == "cpu" || device.kind == "reference") found.push_back(device);
  return found;
}

// Trains `steps` steps, every seventh of a smaller batch, two in flight; {allocations, growth of
// live bytes} after the first `before`.
std::array<int64_t, 2> train(Program& program, int steps, int before) {
  std::array<float, kBatch * 64> images{};
  for (std::size_t i = 0; i < images.size(); ++i) images[i] = static_cast<float>(i % 13) / 13.0f;
  const std::array<int32_t, kBatch> classes{0, 1, 2, 1, 9, 5, 5, 3};
  const std::vector<double> rates{1e-3};
  const auto inputs = [&](int64_t n) {
    return std::vector<HostView>{{images.data(), DType::float32, {n, 8, 8, 1}, {}},
                                 {classes.data(), DType::int32, {n}, {}}};
  };
  const auto whole = inputs(kBatch), part = inputs(5);
  std::array<int64_t, 2> start{};
  encodes = true;
  for (int i = 0; i < steps; ++i) {
    if (i == before) {
      program.wait(nullptr);
      start = {allocations, live};
    }
    program.encode(i % 7 == 2 ? part : whole, rates, nullptr);
  }
  program.wait(nullptr);
  return {allocations - start[0], live - start[1]};
}

}  // namespace

TEST_CASE("the hook counts allocations") {
  const int64_t before = allocations, bytes = live;
  // Through a volatile pointer: a compiler may leave out a pair of new and delete that it sees.
  double* volatile some = new double[1000];
  void* aligned = nullptr;
  CHECK(posix_memalign(&aligned, 64, 4096) == 0);
  CHECK(allocations == before + 2);
  CHECK(live >= bytes + 8000 + 4096);
  free(aligned);
  delete[] some;
  CHECK(live == bytes);
}

TEST_CASE("a step after the third allocates nothing") {
  for (const Device& device : host_devices())
    for (const DType dtype : device.dtypes)
      for (const int accumulate : {1, 3}) {
        Digits digits(device.id(), dtype);
        digits.options.accumulate = accumulate;
        digits.options.clip_norm = 1.0;
        if (dtype == DType::float16) {
          digits.options.loss_scale.mode = LossScale::Mode::dynamic;
          digits.options.loss_scale.initial = 65536;
        }
        const auto program = Program::compile(digits.graph, digits.options);
        const auto [made, grown] = train(*program, 120, 6);
        CAPTURE(device.id());
        CAPTURE(std::string(name_of(dtype)));
        CAPTURE(accumulate);
        CHECK(made == 0);
        CHECK(grown == 0);
      }
}

TEST_CASE("a step of a small plan, which the caller runs, allocates nothing either") {
  for (const Device& device : host_devices()) {
    Graph graph;
    const ValueId x = graph.add_input("x", {kBatch, 8, 8, 1}, DType::float32);
    const ValueId y = graph.add("flatten", {x}, {}, "Flatten f")[0];
    ProgramOptions options;
    options.device = device.id();
    options.optimize = false;  // else there is nothing to run
    options.results = {{"y", y, false}};
    const auto program = Program::compile(graph, options);
    const std::array<float, kBatch * 64> images{};
    const std::vector<HostView> inputs{{images.data(), DType::float32, {kBatch, 8, 8, 1}, {}}};
    int64_t before = 0;
    for (int i = 0; i < 120; ++i) {
      if (i == 6) before = allocations;
      program->encode(inputs, {}, nullptr).wait(std::nullopt, nullptr);
    }
    CHECK_MESSAGE(allocations == before, device.id());
  }
}

#endif
