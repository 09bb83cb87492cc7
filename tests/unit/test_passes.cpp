// Each pass alone, and the memory plan against brute force on random graphs.
#include <doctest/doctest.h>

#include <random>
#include <set>

#include "compile/passes/passes.h"
#include "compile/plan.h"
#include "mpsnn/error.h"
#include "runtime/arena.h"
#include "runtime/registry.h"

using namespace mpsnn;

namespace {

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
      const auto kind = rng() % 6;
      if (kind < 2) {
        values.push_back(graph.add("add", {x, values[rng() % values.size()]}, {}, layer)[0]);
      } else if (kind == 2) {
        values.push_back(graph.add("dropout", {x}, attrs({{"rate", 0.5}}), layer)[0]);
      } else if (kind == 3) {
        const Attrs pool = attrs({{"kernel", std::vector<int64_t>{2, 2}},
                                  {"stride", std::vector<int64_t>{1, 1}},
                                  {"padding", std::string("same")}});
        values.push_back(graph.add("max_pool2d", {x}, pool, layer)[0]);
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

    // Whatever is read was written, within its lifetime.
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
    // Brute force: place the values and run the plan on a map of who wrote each byte last.
    std::vector<runtime::Block> blocks;
    std::vector<int> block_of(plan->values.size(), -1);
    for (std::size_t v = 0; v < plan->values.size(); ++v) {
      if (plan->values[v].kind != ValueKind::temporary || plan->lifetimes[v].first < 0) continue;
      block_of[v] = static_cast<int>(blocks.size());
      const auto elements = static_cast<std::size_t>(count(plan->values[v].shape));
      const std::size_t bytes = plan->values[v].opaque_bytes != 0
                                    ? plan->values[v].opaque_bytes
                                    : elements * size_of(plan->values[v].dtype);
      blocks.push_back({bytes, plan->lifetimes[v].first, plan->lifetimes[v].last, 0});
    }
    std::vector<ValueId> owner(runtime::assign_offsets(blocks), kNone);
    const auto over_bytes = [&](ValueId v, auto f) {
      const ValueId root = v == kNone ? kNone : plan->alias[static_cast<std::size_t>(v)];
      const int block = root == kNone ? -1 : block_of[static_cast<std::size_t>(root)];
      if (block < 0) return;  // an input or a parameter
      const runtime::Block& b = blocks[static_cast<std::size_t>(block)];
      for (std::size_t i = b.offset; i < b.offset + b.bytes; ++i) f(owner[i], root);
    };
    int64_t overwritten = 0;
    const auto read = [&](ValueId v) {
      over_bytes(v, [&](ValueId last, ValueId root) { overwritten += last != root; });
    };
    const auto write = [&](ValueId v) {
      over_bytes(v, [](ValueId& last, ValueId root) { last = root; });
    };
    for (const Node& node : plan->nodes) {
      // Inputs are read while outputs are written: they share no byte either.
      for (const auto* list : {&node.outputs, &node.states})
        for (const ValueId v : *list) write(v);
      for (const ValueId v : node.inputs) read(v);
    }
    for (const ResultSpec& r : plan->results) read(r.value);
    CHECK(overwritten == 0);
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
