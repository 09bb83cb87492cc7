// flatten and reshape where they are no views, permute, slice, and what joins or takes apart.
// Channels that begin at a multiple of four are copied into the whole by MPS; all else goes through
// dense buffers, since texels hold four channels.
#import <Foundation/Foundation.h>
#import <Metal/Metal.h>
#import <MetalPerformanceShaders/MetalPerformanceShaders.h>

#include <algorithm>

#include "backend/mps/own.h"
#include "ir/broadcast.h"

namespace mpsnn::backend::mps {
namespace {

class Flatten final : public Operation {
 public:
  explicit Flatten(Builder& b)
      : from_(b.node().gradient ? b.node().gy(0) : b.node().x(0)),
        to_(b.node().gradient ? b.node().gx(0) : b.node().y(0)),
        images_(b.home(to_)) {
    copy_ = [[MPSCNNNeuron alloc] initWithDevice:b.gpu().device() neuronDescriptor:describe({})];
    label(copy_, b.layer());
  }
  void encode(Encoding& e) override {
    MPSImageBatch *x = e.read(from_, images_), *y = e.write(to_, images_);
    [copy_ encodeBatchToCommandBuffer:e.commands() sourceImages:x destinationImages:y];
  }
  std::string detail() const override { return "MPSCNNNeuron"; }

 private:
  ValueId from_, to_;
  Geometry images_;
  MPSCNNNeuron* copy_;
};

struct Part {
  ValueId value;         // kNone: a gradient nobody wants
  int64_t size, offset;  // in rows of the whole
};

// Copies of channels, into the whole or out of it.
class Channels final : public Operation {
 public:
  Channels(Builder& b, ValueId whole, std::vector<Part> parts)
      : whole_(whole),
        images_(geometry_of(b.y_shape())),
        gradient_(b.node().gradient),
        parts_(std::move(parts)) {
    for (const Part& part : parts_) {
      MPSCNNNeuron* copy = [[MPSCNNNeuron alloc] initWithDevice:b.gpu().device()
                                               neuronDescriptor:describe({})];
      label(copy, b.layer());
      if (gradient_) {
        copy.sourceFeatureChannelOffset = static_cast<NSUInteger>(part.offset);
        copy.sourceFeatureChannelMaxCount = static_cast<NSUInteger>(part.size);
      } else {
        copy.destinationFeatureChannelOffset = static_cast<NSUInteger>(part.offset);
      }
      copies_.push_back(copy);
    }
  }
  void encode(Encoding& e) override {
    MPSImageBatch* whole = gradient_ ? nil : e.write(whole_, images_);
    for (std::size_t i = 0; i < parts_.size(); ++i) {
      const Part& part = parts_[i];
      if (part.value == kNone) continue;
      Geometry images = images_;
      images.c = part.size;
      MPSImageBatch* from = gradient_ ? e.read(whole_, images_) : e.read(part.value, images);
      MPSImageBatch* to = gradient_ ? e.write(part.value, images) : whole;
      [copies_[i] encodeBatchToCommandBuffer:e.commands() sourceImages:from destinationImages:to];
    }
  }
  std::string detail() const override { return "MPSCNNNeuron at a channel offset"; }

 private:
  ValueId whole_;
  Geometry images_;
  bool gradient_;
  std::vector<Part> parts_;
  std::vector<MPSCNNNeuron*> copies_;
};

// Joins parts of rows, or takes rows apart; through buffers.
std::unique_ptr<Operation> rows(Builder& b, bool joins, ValueId whole, std::vector<Part> parts,
                                int64_t row) {
  const Dense all = dense_or_none(b, whole);
  std::vector<Dense> own;
  for (const Part& part : parts) own.push_back(dense_or_none(b, part.value));
  const int64_t elements = count(b.value(whole).shape), count_of_rows = elements / row;
  const bool gaps = joins && std::any_of(parts.begin(), parts.end(),
                                         [](const Part& part) { return part.value == kNone; });
  const ScaleParams zero{static_cast<int>(elements), 0, 0};
  return own_kernels([=](Encoding& e) {
    const Buffer whole_at = joins ? e.target(all) : e.load(all);
    if (gaps) e.run(e.gpu().pipeline("fill_array"), {whole_at}, zero, zero.count);
    for (std::size_t i = 0; i < parts.size(); ++i) {
      if (own[i].value == kNone) continue;
      const RowParams p{static_cast<int>(parts[i].size * count_of_rows),
                        static_cast<int>(parts[i].size), static_cast<int>(row),
                        static_cast<int>(parts[i].offset)};
      if (joins) {
        const Buffer from = e.load(own[i]);
        e.run(e.gpu().pipeline("rows_into"), {from, whole_at}, p, p.count);
      } else {
        e.run(e.gpu().pipeline("rows_from"), {whole_at, e.target(own[i])}, p, p.count);
        e.store(own[i]);
      }
    }
    if (joins) e.store(all);
  });
}

// Every element of a box of x to its place in y, or its gradient back.
std::unique_ptr<Operation> moved(Builder& b, const std::vector<int64_t>& dims,
                                 const std::vector<int64_t>& starts) {
  const Node& n = b.node();
  const Shape& y = b.y_shape();
  const auto strides = ir::dense_strides(b.x_shape(0));
  std::vector<int64_t> own;
  int64_t start = 0;
  for (std::size_t i = 0; i < y.size(); ++i) {
    own.push_back(strides[static_cast<std::size_t>(dims[i])]);
    start += starts[i] * own.back();
  }
  const bool cuts = count(y) != count(b.x_shape(0)), gradient = n.gradient;
  StridedParams p =
      gradient ? strided(y, ir::dense_strides(y), own) : strided(y, own, ir::dense_strides(y));
  (gradient ? p.b_offset : p.a_offset) = static_cast<int>(start);
  const Dense from = b.dense(gradient ? n.gy(0) : n.x(0)),
              to = b.dense(gradient ? n.gx(0) : n.y(0));
  const ScaleParams zero{static_cast<int>(count(b.x_shape(0))), 0, 0};
  return own_kernels([=](Encoding& e) {
    const Buffer source = e.load(from), target = e.target(to);
    if (gradient && cuts) e.run(e.gpu().pipeline("fill_array"), {target}, zero, zero.count);
    e.run(e.gpu().pipeline("move_elements"), {source, target}, p, p.count);
    e.store(to);
  });
}

}  // namespace

std::unique_ptr<Operation> make_flatten(Builder& b) { return std::make_unique<Flatten>(b); }

std::unique_ptr<Operation> make_permute(Builder& b) {
  const auto& dims = b.attrs().integers("dims");
  return moved(b, dims, std::vector<int64_t>(dims.size(), 0));
}

std::unique_ptr<Operation> make_slice(Builder& b) {
  auto dims = b.attrs().integers("dims"), starts = b.attrs().integers("starts");
  dims.insert(dims.begin(), 0);
  starts.insert(starts.begin(), 0);
  return moved(b, dims, starts);
}

std::unique_ptr<Operation> make_concat(Builder& b) {
  const Node& n = b.node();
  const Shape& y = b.y_shape();
  const auto axis = static_cast<std::size_t>(b.attrs().integer("dim"));
  const auto& sizes = b.attrs().integers("sizes");
  int64_t inner = 1, offset = 0;
  for (std::size_t i = axis + 1; i < y.size(); ++i) inner *= y[i];
  bool aligned = axis + 1 == y.size();
  std::vector<Part> parts;
  for (int i = 0; i < n.nx; ++i) {
    aligned = aligned && offset % 4 == 0;
    parts.push_back(
        {n.gradient ? n.gx(i) : n.x(i), sizes[static_cast<std::size_t>(i)] * inner, offset});
    offset += parts.back().size;
  }
  const ValueId whole = n.gradient ? n.gy(0) : n.y(0);
  if (aligned) return std::make_unique<Channels>(b, whole, std::move(parts));
  return rows(b, !n.gradient, whole, std::move(parts), offset);
}

std::unique_ptr<Operation> make_stack(Builder& b) {
  const Node& n = b.node();
  const ValueId whole = n.gradient ? n.gy(0) : n.y(0);
  const int64_t size = count(b.y_shape()) / n.nx;
  std::vector<Part> parts;
  for (int i = 0; i < n.nx; ++i) parts.push_back({n.gradient ? n.gx(i) : n.x(i), size, i * size});
  return rows(b, !n.gradient, whole, std::move(parts), n.nx * size);
}

std::unique_ptr<Operation> make_unstack(Builder& b) {
  const Node& n = b.node();
  const ValueId whole = n.gradient ? n.gx(0) : n.x(0);
  const int64_t size = count(b.x_shape(0)) / n.ny;
  std::vector<Part> parts;
  for (int i = 0; i < n.ny; ++i) parts.push_back({n.gradient ? n.gy(i) : n.y(i), size, i * size});
  return rows(b, n.gradient, whole, std::move(parts), n.ny * size);
}

}  // namespace mpsnn::backend::mps
