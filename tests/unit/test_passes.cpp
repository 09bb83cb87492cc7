// Each pass alone, the memory plan against brute force on random graphs, and steps that allocate
// nothing.
#include <doctest/doctest.h>

#include <atomic>
#include <cstdlib>
#include <new>
#include <random>
#include <set>

#include "compile/passes/passes.h"
#include "compile/plan.h"
#include "mpsnn/error.h"
#include "runtime/registry.h"

using namespace mpsnn;

namespace {

std::atomic<bool> counting{false};
std::atomic<int64_t> allocations{0};
thread_local bool is_test_thread = false;

Attrs attrs(std::initializer_list<std::pair<const char*, Attr>> items) {
  Attrs made;
  for (const auto& [name, value] : items) made.set(name, value);
  return made;
}

const runtime::Backend& reference() { return *runtime::device_context("reference").backend; }

ir::Plan plan_of(const Graph& graph, bool training) {
  ir::Plan plan;
  plan.dtype = graph.dtype();
  plan.training = training;
  plan.values = graph.values();
  plan.nodes = graph.nodes();
  plan.inputs = graph.inputs();
  return plan;
}

std::shared_ptr<Parameter> parameter(Shape shape) {
  Tensor value(std::move(shape), DType::float32);
  for (int64_t i = 0; i < value.count(); ++i)
    value.as<float>()[i] = 0.1f * static_cast<float>(i % 7) - 0.3f;
  return std::make_shared<Parameter>(value);
}

struct Small {
  Graph graph;
  ValueId x, w, conv, relu;
  Small() {
    x = graph.add_input("x", {2, 5, 5, 3}, DType::float32);
    w = graph.add_parameter("w", parameter({4, 3, 3, 3}));
    conv = graph.add("conv2d", {x, w}, attrs({{"padding", std::string("same")}}), "Conv2d c")[0];
    relu = graph.add("neuron", {conv}, attrs({{"kind", std::string("relu")}}), "ReLU r")[0];
  }
};

}  // namespace

__attribute__((noinline)) void* operator new(std::size_t size) {
  if (counting && !is_test_thread) ++allocations;
  if (void* p = std::malloc(size)) return p;
  throw std::bad_alloc();
}
__attribute__((noinline)) void operator delete(void* p) noexcept { std::free(p); }
__attribute__((noinline)) void operator delete(void* p, std::size_t) noexcept { std::free(p); }

TEST_CASE("fuse: a neuron joins the only producer of its input") {
  const Small s;
  ir::Plan plan = plan_of(s.graph, true);
  compile::fuse(plan, {s.relu}, reference());
  REQUIRE(plan.nodes.size() == 1);
  CHECK(plan.nodes[0].attrs.text("neuron") == "relu");
  CHECK(plan.nodes[0].outputs[0] == s.relu);

  ir::Plan kept = plan_of(s.graph, true);
  compile::fuse(kept, {s.relu, s.conv}, reference());
  CHECK(kept.nodes.size() == 2);
}

TEST_CASE("sink: a ReLU moves behind the max-pooling that alone reads it, and fuses into it") {
  const auto pooled = [](Small& s, std::vector<int64_t> dilation) {
    return s.graph.add("max_pool2d", {s.relu},
                       attrs({{"kernel", std::vector<int64_t>{2, 2}},
                              {"stride", std::vector<int64_t>{2, 2}},
                              {"dilation", std::move(dilation)}}),
                       "MaxPool2d p")[0];
  };
  Small s;
  const ValueId y = pooled(s, {1, 1});
  ir::Plan plan = plan_of(s.graph, true), kept = plan;
  compile::sink(plan, {y});
  REQUIRE(plan.nodes.size() == 3);
  CHECK(plan.nodes[1].op == Op::max_pool2d);
  CHECK(plan.nodes[1].inputs[0] == s.conv);
  CHECK(plan.nodes[2].op == Op::neuron);
  CHECK(plan.nodes[2].inputs[0] == plan.nodes[1].outputs[0]);
  CHECK(plan.nodes[2].outputs[0] == y);
  CHECK(plan.values[static_cast<std::size_t>(plan.nodes[1].outputs[0])].shape == Shape{2, 2, 2, 4});
  compile::fuse(plan, {y}, reference());
  REQUIRE(plan.nodes.size() == 2);
  CHECK(plan.nodes[1].attrs.text("neuron") == "relu");

  compile::sink(kept, {y, s.relu});  // somebody asked for the ReLU's own output
  CHECK(kept.nodes[1].op == Op::neuron);

  Small wide;
  const ValueId z = pooled(wide, {2, 2});  // a window may lie in the padding as a whole
  ir::Plan dilated = plan_of(wide.graph, true);
  compile::sink(dilated, {z});
  CHECK(dilated.nodes[1].op == Op::neuron);
}

TEST_CASE("fuse: a slope that the output does not tell stays apart in training") {
  Small s;
  const ValueId y = s.graph.add(
      "neuron", {s.conv}, attrs({{"kind", std::string("leaky_relu")}, {"a", -0.5}}), "L l")[0];
  ir::Plan training = plan_of(s.graph, true);
  training.nodes.erase(training.nodes.begin() + 1);  // the ReLU
  ir::Plan inference = training;
  inference.training = false;
  compile::fuse(training, {y}, reference());
  compile::fuse(inference, {y}, reference());
  CHECK(training.nodes.size() == 2);
  CHECK(inference.nodes.size() == 1);
}

TEST_CASE("elide: dropout outside training, and what nothing depends on") {
  Small s;
  const ValueId d = s.graph.add("dropout", {s.relu}, attrs({{"rate", 0.5}}), "Dropout d")[0];
  const ValueId y = s.graph.add("neuron", {d}, attrs({{"kind", std::string("tanh")}}), "Tanh t")[0];
  ir::Plan inference = plan_of(s.graph, false), training = plan_of(s.graph, true);
  compile::elide_identities(inference);
  compile::elide_identities(training);
  CHECK(inference.nodes.size() == 3);
  CHECK(training.nodes.size() == 4);
  CHECK(inference.nodes.back().inputs[0] == s.relu);
  compile::elide_dead(inference, {s.relu});
  CHECK(inference.nodes.size() == 2);
  static_cast<void>(y);
}

TEST_CASE("autodiff: one gradient node per node, sums where a value is used twice") {
  Graph graph;
  const ValueId x = graph.add_input("x", {2, 3}, DType::float32);
  const ValueId a = graph.add("neuron", {x}, attrs({{"kind", std::string("tanh")}}), "Tanh a")[0];
  const ValueId b = graph.add("neuron", {a}, attrs({{"kind", std::string("relu")}}), "ReLU b")[0];
  const ValueId c = graph.add("add", {a, b}, {}, "add c")[0];
  const ValueId seed = graph.add_input("seed", {2, 3}, DType::float32);
  ir::Plan plan = plan_of(graph, true);
  std::vector<bool> wanted(plan.values.size(), false);
  wanted[static_cast<std::size_t>(x)] = true;
  const auto gradients = compile::autodiff(plan, {{c, seed}}, wanted, reference());
  int made = 0, sums = 0;
  for (std::size_t i = 3; i < plan.nodes.size(); ++i) {
    made += plan.nodes[i].gradient;
    sums += plan.nodes[i].op == Op::add;
  }
  CHECK(made == 2);  // add's gradient is the identity
  CHECK(sums == 1);
  CHECK(gradients.of[static_cast<std::size_t>(x)] != kNone);
  // What the backend does not save is not kept: tanh's gradient reads y, not x.
  CHECK(plan.nodes.back().x(0) == kNone);
  CHECK(plan.nodes.back().y(0) == a);
  CHECK_THROWS_AS(compile::autodiff(plan, {{c, kNone}}, wanted, reference()), ValueError);
}

TEST_CASE("memory: flatten is a view, and overlapping lifetimes never share a byte") {
  std::mt19937 rng(1);
  for (int round = 0; round < 60; ++round) {
    Graph graph;
    std::vector<ValueId> values{graph.add_input("x", {2, 4, 4, 3}, DType::float32)};
    const int depth = 2 + static_cast<int>(rng() % 20);
    for (int i = 0; i < depth; ++i) {
      const ValueId x = values[rng() % values.size()];
      const std::string layer = "n " + std::to_string(i);
      if (rng() % 3 == 0) {
        values.push_back(graph.add("add", {x, x}, {}, layer)[0]);
      } else {
        values.push_back(
            graph.add("neuron", {x}, attrs({{"kind", std::string("sigmoid")}}), layer)[0]);
      }
    }
    const ValueId flat = graph.add("flatten", {values.back()}, {}, "Flatten f")[0];
    ProgramOptions options;
    options.device = "reference";
    options.training = true;
    const ValueId seed = graph.add_input("seed", {2, 48}, DType::float32);
    options.seeds = {{flat, seed}};
    options.results = {{"y", flat, false}};
    options.results.push_back({"g", values.back(), true});
    const auto plan = compile::make_plan(graph, options, reference());
    for (const Node& node : plan->nodes) CHECK(node.op != Op::flatten);
    CHECK(plan->alias[static_cast<std::size_t>(flat)] ==
          plan->alias[static_cast<std::size_t>(values.back())]);

    // Brute force: walk the plan and see that whatever is read was written, within its lifetime.
    std::set<ValueId> written(plan->inputs.begin(), plan->inputs.end());
    for (std::size_t i = 0; i < plan->nodes.size(); ++i) {
      const auto at = static_cast<int>(i);
      for (const ValueId v : plan->nodes[i].inputs) {
        if (v == kNone) continue;
        const ValueId root = plan->alias[static_cast<std::size_t>(v)];
        CHECK(written.count(root) == 1);
        const auto& life = plan->lifetimes[static_cast<std::size_t>(root)];
        CHECK((life.first <= at && at <= life.last));
      }
      for (const ValueId v : plan->nodes[i].outputs)
        if (v != kNone) written.insert(plan->alias[static_cast<std::size_t>(v)]);
    }
    for (const ResultSpec& r : plan->results)
      CHECK(
          plan->lifetimes[static_cast<std::size_t>(plan->alias[static_cast<std::size_t>(r.value)])]
              .last == static_cast<int>(plan->nodes.size()));
  }
}

TEST_CASE("plans are cached by everything they are made of") {
  const Small s;
  ProgramOptions options;
  options.device = "reference";
  options.results = {{"y", s.relu, false}};
  const auto first = compile::cached_plan(s.graph, options, reference());
  CHECK((compile::cached_plan(s.graph, options, reference()) == first));
  options.half_accumulator = true;
  CHECK((compile::cached_plan(s.graph, options, reference()) != first));
  CHECK(compile::cached_plan(s.graph.with_batch(1), options, reference())->batch == 1);
}

TEST_CASE("in a step after the third the queue thread allocates nothing") {
  is_test_thread = true;
  for (const Device& device : devices()) {
    Graph graph;
    const ValueId x = graph.add_input("x", {4, 64, 64, 16}, DType::float32);
    InputSpec labels;
    labels.classes = 16384;
    const ValueId t = graph.add_input("t", {4}, DType::int32, labels);
    ProgramOptions options;
    options.device = device.id();
    options.training = true;
    options.optimizer.emplace();
    options.optimizer->kind = OptimizerKind::adam;
    options.optimizer->groups.emplace_back();
    const auto add = [&](const char* name, Shape shape) {
      const auto p = parameter(std::move(shape));
      options.optimizer->parameters.emplace_back(p, 0);
      options.optimizer->names.emplace_back(name);
      return graph.add_parameter(name, p);
    };
    const auto buffer = [&](const char* name, float value) {
      Tensor made({16}, DType::float32);
      for (int i = 0; i < 16; ++i) made.as<float>()[i] = value;
      return graph.add_parameter(name, std::make_shared<Parameter>(made, true));
    };
    // Large enough for the queue thread; no oneDNN, whose own allocations are not ours.
    ValueId y =
        graph.add("batch_norm", {x, add("w", {16}), add("b", {16}), buffer("m", 0), buffer("v", 1)},
                  {}, "BatchNorm2d n")[0];
    y = graph.add(
        "max_pool2d", {y},
        attrs({{"kernel", std::vector<int64_t>{2, 2}}, {"stride", std::vector<int64_t>{2, 2}}}),
        "MaxPool2d p")[0];
    y = graph.add("dropout", {y}, attrs({{"rate", 0.2}}), "Dropout d")[0];
    y = graph.add("flatten", {y}, {}, "Flatten f")[0];
    const ValueId loss = graph.add("softmax_cross_entropy", {y, t}, {}, "Loss")[0];
    options.seeds = {{loss, kNone}};
    options.results = {{"loss", loss, false}};
    const auto program = Program::compile(graph, options);
    Tensor images({4, 64, 64, 16}, DType::float32);
    for (int64_t i = 0; i < images.count(); ++i)
      images.as<float>()[i] = static_cast<float>(i % 13) / 13.0f;
    const int32_t classes[] = {0, 1, 2, 1};
    const std::vector<HostView> inputs{{images.data(), DType::float32, images.shape(), {}},
                                       {classes, DType::int32, {4}, {}}};
    float first = 0, last = 0;
    for (int i = 0; i < 16; ++i) {
      if (i == 4) allocations = 0, counting = true;
      const Step step = program->encode(inputs, {1e-2}, nullptr);
      step.wait(std::nullopt, nullptr);
      (i == 0 ? first : last) = *step.result(0).as<float>();
    }
    counting = false;
    CHECK(last < first);
    CHECK_MESSAGE(allocations == 0, device.id());
  }
  is_test_thread = false;
}
