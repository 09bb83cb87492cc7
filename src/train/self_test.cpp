// A device's first question: does a small network train to the same losses as on `reference`?
#include <cmath>

#include "mpsnn/device.h"
#include "mpsnn/program.h"

namespace mpsnn {
namespace {

Tensor filled(Shape shape, double frequency) {
  Tensor t(std::move(shape), DType::float32);
  for (int64_t i = 0; i < t.count(); ++i)
    t.as<float>()[i] = static_cast<float>(0.5 * std::sin(frequency * static_cast<double>(i + 1)));
  return t;
}

std::vector<float> train(const std::string& device) {
  constexpr int64_t kBatch = 4, kClasses = 3;
  Graph graph;
  const ValueId x = graph.add_input("x", {kBatch, 6, 6, 2}, DType::float32);
  InputSpec labels;
  labels.classes = kClasses;
  const ValueId t = graph.add_input("target", {kBatch}, DType::int32, labels);
  ProgramOptions options;
  options.device = device;
  options.training = true;
  options.optimizer.emplace();
  options.optimizer->kind = OptimizerKind::adam;
  options.optimizer->groups.emplace_back();
  const auto parameter = [&](const char* name, Shape shape, double frequency) {
    auto p = std::make_shared<Parameter>(filled(std::move(shape), frequency));
    options.optimizer->parameters.emplace_back(p, 0);
    options.optimizer->names.emplace_back(name);
    return graph.add_parameter(name, p);
  };
  Attrs conv, relu, pool;
  conv.set("padding", std::string("same"));
  relu.set("kind", std::string("relu"));
  pool.set("kernel", std::vector<int64_t>{2, 2});
  pool.set("stride", std::vector<int64_t>{2, 2});
  ValueId y = graph.add("conv2d", {x, parameter("w", {4, 3, 3, 2}, 1.7), parameter("b", {4}, 0.9)},
                        conv, "Conv2d self_test")[0];
  y = graph.add("neuron", {y}, relu, "ReLU self_test")[0];
  y = graph.add("max_pool2d", {y}, pool, "MaxPool2d self_test")[0];
  y = graph.add("flatten", {y}, {}, "Flatten self_test")[0];
  y = graph.add("linear", {y, parameter("v", {kClasses, 36}, 2.3), parameter("c", {kClasses}, 0.4)},
                {}, "Linear self_test")[0];
  const ValueId loss =
      graph.add("softmax_cross_entropy", {y, t}, {}, "SoftmaxCrossEntropy self_test")[0];
  options.seeds.push_back({loss, kNone});
  options.results.push_back({"loss", loss, false});

  const auto program = Program::compile(graph, options);
  const Tensor images = filled({kBatch, 6, 6, 2}, 3.1);
  const int32_t classes[kBatch] = {0, 2, 1, 2};
  std::vector<float> losses;
  for (int i = 0; i < 3; ++i) {
    const Step step = program->encode({{images.data(), DType::float32, images.shape(), {}},
                                       {classes, DType::int32, {kBatch}, {}}},
                                      {0.01}, nullptr);
    step.wait(std::nullopt, nullptr);
    losses.push_back(*step.result(0).as<float>());
  }
  return losses;
}

}  // namespace

std::string self_test(const std::string& device) {
  try {
    const std::vector<float> expected = train("reference"), got = train(device);
    for (std::size_t i = 0; i < expected.size(); ++i)
      if (!(std::abs(got[i] - expected[i]) <= 1e-4f * std::abs(expected[i])))
        return "step " + std::to_string(i) + ": loss " + std::to_string(got[i]) + ", expected " +
               std::to_string(expected[i]);
  } catch (const std::exception& e) {
    return e.what();
  }
  return "";
}

}  // namespace mpsnn
