#include "train/inputs.h"

#include "mpsnn/error.h"

namespace mpsnn::train {
namespace {

int64_t read_index(const char* at, DType dtype) {
  switch (dtype) {
    case DType::int32:
      return *reinterpret_cast<const int32_t*>(at);
    case DType::int64:
      return *reinterpret_cast<const int64_t*>(at);
    default:
      return *reinterpret_cast<const uint8_t*>(at);
  }
}

void check_index(const Value& value, int64_t index) {
  if ((index >= 0 && index < value.input.classes) || index == value.input.ignore_index) return;
  throw ValueError("[input " + value.name + "] class index " + std::to_string(index) +
                   " is outside 0.." + std::to_string(value.input.classes - 1));
}

void check_indices(const Value& value, const HostView& view) {
  const int64_t total = count(view.shape);
  const auto* base = static_cast<const char*>(view.data);
  if (view.strides.empty()) {
    for (int64_t i = 0; i < total; ++i)
      check_index(value,
                  read_index(base + i * static_cast<int64_t>(size_of(view.dtype)), view.dtype));
    return;
  }
  for (int64_t i = 0; i < total; ++i) {
    int64_t rest = i, offset = 0;
    for (std::size_t axis = view.shape.size(); axis-- > 0;) {
      offset += rest % view.shape[axis] * view.strides[axis];
      rest /= view.shape[axis];
    }
    check_index(value, read_index(base + offset, view.dtype));
  }
}

void check_dtype(const Value& value, DType given) {
  if (is_floating(value.dtype)) {
    if (!is_floating(given))
      throw DTypeError("[input " + value.name + "] expected floating values, got " +
                       name_of(given) +
                       "; integer pictures are scaled first: x.astype(float32) "
                       "/255");
  } else if (is_floating(given)) {
    throw DTypeError("[input " + value.name + "] class indices are integers, got " +
                     name_of(given));
  }
}

}  // namespace

int64_t check_inputs(const Graph& graph, const std::vector<HostView>& inputs) {
  const auto& ids = graph.inputs();
  if (inputs.size() != ids.size())
    throw TypeError("expected " + std::to_string(ids.size()) + " inputs, got " +
                    std::to_string(inputs.size()));
  const int64_t compiled = graph.batch();
  int64_t batch = 0;
  for (std::size_t i = 0; i < ids.size(); ++i) {
    const Value& value = graph.value(ids[i]);
    const HostView& view = inputs[i];
    if (view.data == nullptr && view.shape.empty()) {
      if (!value.input.optional) throw TypeError("[input " + value.name + "] is missing");
      continue;
    }
    check_dtype(value, view.dtype);
    const auto expected = [&] {
      Shape shape = value.shape;
      if (value.input.batched && batch != 0) shape[0] = batch;
      return to_string(shape);
    };
    const std::size_t fixed = value.input.batched ? 1 : 0;
    bool fits = view.shape.size() == value.shape.size();
    for (std::size_t axis = fixed; fits && axis < view.shape.size(); ++axis)
      fits = view.shape[axis] == value.shape[axis];
    if (!fits)
      throw ShapeError("[input " + value.name + "] expected " + expected() + ", got " +
                       to_string(view.shape));
    if (value.input.batched) {
      const int64_t n = view.shape[0];
      if (n == 0) throw ShapeError("[input " + value.name + "] the batch is empty");
      if (n > compiled)
        throw ShapeError("[input " + value.name +
                         "] the graph was compiled for batches of at most " +
                         std::to_string(compiled) + ", got " + std::to_string(n));
      if (batch != 0 && n != batch)
        throw ShapeError("[input " + value.name + "] expected " + expected() + ", got " +
                         to_string(view.shape));
      batch = n;
    }
    if (value.input.classes > 0) check_indices(value, view);
  }
  return batch == 0 ? compiled : batch;
}

}  // namespace mpsnn::train
