// The losses that MPSCNNLoss has not, or not as we mean them, by our own kernels: of elements
// (unreduced, with weights of elements or classes, of indices, or of kinds whose documented
// gradient is not that of the loss), of positions (soft labels, cosine distance) and of images
// (YOLO, of which MPS's algorithm is not documented, and losses that are given).
#import <Foundation/Foundation.h>
#import <Metal/Metal.h>
#import <MetalPerformanceShaders/MetalPerformanceShaders.h>

#include <vector>

#include "backend/mps/own.h"
#include "ir/loss.h"

namespace mpsnn::backend::mps {
namespace {

static_assert(kLossMae == static_cast<int>(ir::Loss::mae) &&
              kLossMse == static_cast<int>(ir::Loss::mse) &&
              kLossSigmoid == static_cast<int>(ir::Loss::sigmoid_cross_entropy) &&
              kLossCategorical == static_cast<int>(ir::Loss::categorical_cross_entropy) &&
              kLossHinge == static_cast<int>(ir::Loss::hinge) &&
              kLossHuber == static_cast<int>(ir::Loss::huber) &&
              kLossLog == static_cast<int>(ir::Loss::log) &&
              kLossKl == static_cast<int>(ir::Loss::kl_divergence));

BufferRef floats_of(Builder& b, const char* attribute) {
  const std::vector<double> numbers = b.attrs().numbers(attribute);
  const std::vector<float> floats(numbers.begin(), numbers.end());
  return constant_buffer(b.gpu(), floats.data(), floats.size() * sizeof(float));
}

// Operands and sizes of both passes.
struct Units {
  explicit Units(Builder& b) {
    const Node& n = b.node();
    const Attrs& a = b.attrs();
    const Shape& shape = b.x_shape(0);
    const bool given = n.op == Op::given_loss;
    const int weights = given ? 1 : 2;
    p.images = static_cast<int>(shape[0]);
    p.classes = static_cast<int>(shape.back());
    elements = count(shape);
    int64_t units = elements;
    if (n.op == Op::element_loss) {
      const ir::LossSpec spec = ir::loss_of(a);
      p.kind = static_cast<int>(spec.kind);
      p.a = static_cast<float>(spec.a);
    } else if (given || n.op == Op::yolo_loss) {
      p.kind = kLossGiven;
      units = p.images;
    } else {
      p.kind = n.op == Op::cosine_distance ? kLossCosine : kLossSoftmax;
      units = elements / p.classes;
    }
    p.each = static_cast<int>(units / p.images);
    p.soft = given || is_floating(b.value(n.x(1)).dtype) ? 1 : 0;
    if (a.has("ignore_index")) p.ignore = static_cast<int>(a.integer("ignore_index"));
    if (a.has("label_smoothing")) p.smoothing = static_cast<float>(a.number("label_smoothing"));
    p.class_weighted = a.has("weight") && !a.numbers("weight").empty();
    if (p.class_weighted != 0) class_weight = floats_of(b, "weight");
    const auto operand = [&](int i) { return i < n.nx ? n.x(i) : kNone; };
    image_weight = dense_or_none(b, operand(weights));
    unit_weight = dense_or_none(b, operand(weights + 1));
    p.image_weighted = image_weight.value != kNone;
    p.unit_weighted = unit_weight.value != kNone;
    if (p.unit_weighted != 0)
      p.units_a_weight = static_cast<int>(units / count(b.value(unit_weight.value).shape));
    p.divides = a.text("reduction") == "mean";
    p.none = a.text("reduction") == "none";
    p.normalize = a.flag("normalize");
    x = b.dense(n.x(0));
    if (!given) {
      indices = n.x(1);
      if (p.soft != 0) target = b.dense(n.x(1));
    }
  }
  int64_t units() const { return static_cast<int64_t>(p.images) * p.each; }

  UnitParams p{};
  int64_t elements = 0;
  BufferRef class_weight = nil;
  Dense x, target, image_weight, unit_weight;
  ValueId indices = kNone;
};

// Those operands on the device; what is absent is x, and not read.
struct Bound {
  Bound(Encoding& e, const Units& u)
      : x(e.load(u.x)),
        soft(u.target.value != kNone ? e.load(u.target) : x),
        target(u.p.soft == 0 ? e.buffer(u.indices) : x),
        class_weight(u.class_weight != nil ? Buffer{u.class_weight, 0} : x),
        image_weight(u.p.image_weighted != 0 ? e.load(u.image_weight) : x),
        unit_weight(u.p.unit_weighted != 0 ? e.load(u.unit_weight) : x) {}
  Buffer x, soft, target, class_weight, image_weight, unit_weight;
};

// The YOLO loss of each image, or its gradient.
class Yolo {
 public:
  explicit Yolo(Builder& b) {
    const Attrs& a = b.attrs();
    const Shape& shape = b.x_shape(0);
    const auto number = [&](const char* name) { return static_cast<float>(a.number(name)); };
    p_.images = static_cast<int>(shape[0]);
    p_.cells = static_cast<int>(shape[1] * shape[2]);
    p_.anchors = static_cast<int>(a.integer("count"));
    p_.width = static_cast<int>(shape[3]) / p_.anchors;
    p_.rescore = a.flag("rescore");
    p_.gradient = b.node().gradient;
    p_.xy = number("scale_xy");
    p_.wh = number("scale_wh");
    p_.no_object = number("scale_no_object");
    p_.object = number("scale_object");
    p_.classes = number("scale_class");
    p_.presence = number("presence");
    p_.absence = number("absence");
    anchors_ = floats_of(b, "anchors");
    const auto array = [&](int64_t floats) {
      return b.scratch(static_cast<std::size_t>(floats) * sizeof(float));
    };
    cells_ = array(threads());
    objects_ = array(p_.images);
    losses_ = array(p_.images);
    sum_ = Reduction(b, {p_.images, p_.cells}, {1});
  }
  // Where the losses lie; the gradient goes to `to`.
  Buffer run(Encoding& e, const Bound& v, Buffer factors, Buffer to) const {
    const Buffer anchors{anchors_, 0}, cells = e.scratch(cells_), objects = e.scratch(objects_);
    e.run(e.gpu().pipeline("yolo_objects"), {v.soft, anchors, cells}, p_, threads());
    sum_.run(e, cells, objects);
    e.run(e.gpu().pipeline("yolo_cells"), {v.x, v.soft, anchors, objects, factors, cells, to}, p_,
          threads());
    if (p_.gradient == 0) sum_.run(e, cells, e.scratch(losses_));
    return e.scratch(losses_);
  }

 private:
  int64_t threads() const { return static_cast<int64_t>(p_.images) * p_.cells; }
  YoloParams p_{};
  BufferRef anchors_;
  std::size_t cells_ = 0, objects_ = 0, losses_ = 0;
  Reduction sum_;
};

std::unique_ptr<Operation> forward(Builder& b) {
  const Node& n = b.node();
  const Units u(b);
  const UnitParams p = u.p;
  const bool yolo = n.op == Op::yolo_loss;
  const std::vector<Yolo> own_yolo = yolo ? std::vector{Yolo(b)} : std::vector<Yolo>{};
  const auto array = [&](int64_t floats) {
    return b.scratch(static_cast<std::size_t>(floats) * sizeof(float));
  };
  const std::size_t weighted = array(u.units()), weights = array(u.units()),
                    image_loss = array(p.images), unread = array(1);
  const Reduction sum(b, {p.images, p.each}, {1});
  const Dense each = p.none != 0 ? b.dense(n.y(0)) : Dense{};
  const ValueId loss = n.y(0), losses = n.y(1), total = n.state(0), sums = n.state(1);
  LossParams values{};
  values.images = p.images;
  values.divides = p.divides;
  return own_kernels([=](Encoding& e) {
    Bound v(e, u);
    if (yolo) v.x = own_yolo[0].run(e, v, v.x, e.scratch(weighted));
    const Buffer all = p.none != 0 ? e.target(each) : e.scratch(weighted);
    e.run(e.gpu().pipeline("unit_losses"),
          {v.x, v.soft, v.target, v.class_weight, v.image_weight, v.unit_weight, all,
           e.scratch(weights)},
          p, u.units());
    sum.run(e, all, e.scratch(image_loss));
    sum.run(e, e.scratch(weights), e.buffer(sums));
    e.run(e.gpu().pipeline("loss_values"),
          {e.scratch(image_loss), e.buffer(sums), p.none != 0 ? e.scratch(unread) : e.buffer(loss),
           e.buffer(losses), e.buffer(total)},
          values, 1);
    if (p.none != 0) e.store(each);
  });
}

std::unique_ptr<Operation> gradient(Builder& b) {
  const Node& n = b.node();
  Units u(b);
  u.p.by_loss = n.gy(0) != kNone;
  u.p.by_losses = n.gy(1) != kNone;
  const UnitParams p = u.p;
  const bool yolo = n.op == Op::yolo_loss, given = n.op == Op::given_loss;
  const std::vector<Yolo> own_yolo = yolo ? std::vector{Yolo(b)} : std::vector<Yolo>{};
  const Dense by_loss = dense_or_none(b, n.gy(0)), by_losses = dense_or_none(b, n.gy(1)),
              gx = b.dense(n.gx(0));
  const ValueId total = n.state(0), sums = n.state(1);
  const std::size_t factors = b.scratch(static_cast<std::size_t>(u.units()) * sizeof(float));
  return own_kernels([=](Encoding& e) {
    const Bound v(e, u);
    const Buffer first = p.by_loss != 0 ? e.load(by_loss) : v.x,
                 second = p.by_losses != 0 ? e.load(by_losses) : v.x;
    const Buffer own = given ? e.target(gx) : e.scratch(factors);
    e.run(e.gpu().pipeline("unit_factors"),
          {v.image_weight, v.unit_weight, first, second, e.buffer(total), e.buffer(sums), own}, p,
          u.units());
    if (yolo)
      own_yolo[0].run(e, v, own, e.target(gx));
    else if (!given)
      e.run(e.gpu().pipeline("unit_gradients"),
            {v.x, v.soft, v.target, v.class_weight, own, e.target(gx)}, p, u.units());
    e.store(gx);
  });
}

}  // namespace

std::unique_ptr<Operation> make_unit_loss(Builder& b) {
  return b.node().gradient ? gradient(b) : forward(b);
}

}  // namespace mpsnn::backend::mps
