#import <Foundation/Foundation.h>
#import <Metal/Metal.h>
#import <MetalPerformanceShaders/MetalPerformanceShaders.h>

#include "backend/mps/own.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "ir/broadcast.h"
#include "mpsnn/error.h"

namespace mpsnn::backend::mps {
namespace {

class OwnKernels final : public Operation {
 public:
  explicit OwnKernels(std::function<void(Encoding&)> body) : body_(std::move(body)) {}
  void encode(Encoding& e) override { body_(e); }
  std::string detail() const override { return "own kernels"; }

 private:
  std::function<void(Encoding&)> body_;
};

struct Axis {
  int64_t size, a, b;
};

// Without axes of one, and with neighbours that lie as one axis joined.
std::vector<Axis> joined(const std::vector<Axis>& axes) {
  std::vector<Axis> out;
  for (const Axis& axis : axes) {
    if (axis.size == 1) continue;
    if (!out.empty() && out.back().a == axis.a * axis.size && out.back().b == axis.b * axis.size)
      out.back() = {out.back().size * axis.size, axis.a, axis.b};
    else
      out.push_back(axis);
  }
  if (out.size() > MPSNN_MOST_AXES) throw UnsupportedError("arrays of more than 8 axes");
  return out;
}

}  // namespace

std::unique_ptr<Operation> own_kernels(std::function<void(Encoding&)> body) {
  return std::make_unique<OwnKernels>(std::move(body));
}

Dense dense_or_none(Builder& b, ValueId id) { return id == kNone ? Dense{} : b.dense(id); }

BufferRef constant_buffer(Gpu& gpu, const void* from, std::size_t bytes) {
  BufferRef made = gpu.buffer(bytes, Use::upload);
  std::memcpy(made.contents, from, bytes);
  gpu.wrote(made, bytes);
  return made;
}

StridedParams strided(const Shape& size, const std::vector<int64_t>& a,
                      const std::vector<int64_t>& b) {
  std::vector<Axis> axes;
  for (std::size_t i = 0; i < size.size(); ++i)
    axes.push_back({size[i], a[i], b.empty() ? 0 : b[i]});
  StridedParams p{};
  p.count = static_cast<int>(count(size));
  p.factor = 1;
  for (const Axis& axis : joined(axes)) {
    p.size[p.rank] = static_cast<int>(axis.size);
    p.a[p.rank] = static_cast<int>(axis.a);
    p.b[p.rank++] = static_cast<int>(axis.b);
  }
  return p;
}

Reduction::Reduction(Builder& builder, const Shape& shape, const std::vector<int64_t>& axes,
                     ReduceKind kind, double factor) {
  constexpr int64_t kTermsAThread = 64, kThreads = 16384;
  const auto strides = ir::dense_strides(shape);
  std::vector<Axis> kept, gone;
  int64_t results = 1, terms = 1;
  for (std::size_t i = 0; i < shape.size(); ++i) {
    const bool reduced = std::find(axes.begin(), axes.end(), static_cast<int64_t>(i)) != axes.end();
    (reduced ? gone : kept).push_back({shape[i], strides[i], 0});
    (reduced ? terms : results) *= shape[i];
  }
  kept = joined(kept);
  gone = joined(gone);
  if (kept.size() + gone.size() > MPSNN_MOST_AXES)
    throw UnsupportedError("arrays of more than 8 axes");
  const int64_t parts = std::clamp<int64_t>(kThreads / results, 1, terms / kTermsAThread + 1);
  first_.count = static_cast<int>(results);
  first_.inner = static_cast<int>(terms);
  first_.parts = static_cast<int>(parts);
  first_.kind = kind;
  first_.outer = static_cast<int>(kept.size());
  first_.factor = static_cast<float>(factor);
  kept.insert(kept.end(), gone.begin(), gone.end());
  for (const Axis& axis : kept) {
    first_.size[first_.rank] = static_cast<int>(axis.size);
    first_.stride[first_.rank++] = static_cast<int>(axis.a);
  }
  if (parts == 1) return;
  parts_ = builder.scratch(static_cast<std::size_t>(results * parts) * sizeof(float));
  first_.factor = 1;
  second_.count = first_.count;
  second_.inner = second_.size[1] = second_.stride[0] = first_.parts;
  second_.parts = second_.outer = second_.stride[1] = 1;
  second_.rank = 2;
  second_.size[0] = first_.count;
  second_.kind = kind;
  second_.factor = static_cast<float>(factor);
}

void Reduction::run(Encoding& e, Buffer from, Buffer to) const {
  const PipelineRef kernel = e.gpu().pipeline("reduce_axes");
  const Buffer between = second_.parts != 0 ? e.scratch(parts_) : to;
  e.run(kernel, {from, between}, first_, static_cast<int64_t>(first_.count) * first_.parts);
  if (second_.parts != 0) e.run(kernel, {between, to}, second_, second_.count);
}

Reduction column_sums(Builder& b, int64_t rows, int64_t columns, double factor) {
  return Reduction(b, {rows, columns}, {0}, kReduceSum, factor);
}

}  // namespace mpsnn::backend::mps
