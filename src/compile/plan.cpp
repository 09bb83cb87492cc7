// The pipeline. Fusion comes before autodiff: a fused node has a fused gradient by the same rule.
#include "compile/plan.h"

#include <algorithm>
#include <functional>
#include <limits>

#include "compile/passes/passes.h"
#include "mpsnn/error.h"

namespace mpsnn::compile {
namespace {

ValueId add_persistent(ir::Plan& plan, std::string name, Shape shape, DType dtype) {
  Value value;
  value.name = std::move(name);
  value.shape = std::move(shape);
  value.dtype = dtype;
  value.kind = ValueKind::persistent;
  plan.values.push_back(std::move(value));
  return static_cast<ValueId>(plan.values.size()) - 1;
}

std::vector<const char*> moment_names(OptimizerKind kind, const Hyper& hyper) {
  std::vector<const char*> names;
  switch (kind) {
    case OptimizerKind::sgd:
      if (hyper.momentum != 0) names = {"momentum"};
      break;
    case OptimizerKind::adam:
    case OptimizerKind::adamw:
      names = {"first", "second"};
      break;
    case OptimizerKind::rmsprop:
      names = {"square"};
      if (hyper.momentum != 0) names.push_back("momentum");
      if (hyper.centered) names.push_back("mean");
      break;
  }
  return names;
}

class Builder {
 public:
  Builder(const Graph& graph, const ProgramOptions& options, const runtime::Backend& backend,
          bool optimize)
      : graph_(graph), options_(options), backend_(backend), optimize_(optimize) {}

  ir::Plan build() {
    copy_graph();
    elide_identities(plan_);
    adopt_gradients();
    elide_dead(plan_, forward_roots());
    if (optimize_) {
      if (options_.seeds.empty() && explicit_.of.empty()) fold(plan_, forward_roots(), backend_);
      sink(plan_, forward_roots());
      fuse(plan_, forward_roots(), backend_);
      fuse_pools(plan_, forward_roots(), backend_);
    }
    check_support(/*gradient=*/false);
    differentiate();
    if (optimize_) gather(plan_, end_roots(), backend_);
    if (optimize_) add_to_gradients(plan_, end_roots(), backend_);
    if (optimize_ && options_.recompute) recompute(plan_, backend_);
    check_support(/*gradient=*/true);
    if (optimize_) fuse_losses(plan_, backend_);
    size_states();
    memory(plan_, optimize_, end_roots(), backend_);
    bind_persistents();
    plan_.naive_bytes = naive_bytes(plan_);
    return std::move(plan_);
  }

 private:
  Value& value(ValueId id) { return plan_.values[static_cast<std::size_t>(id)]; }

  // What is accumulated together: each loss that its sum of weights will divide by itself, and all
  // others.
  struct Share {
    ValueId weight_sum = kNone;
    std::vector<bool> closed;  // bit per node: losses of other shares
  };

  void copy_graph() {
    plan_.dtype = graph_.dtype();
    plan_.training = options_.training;
    plan_.half_accumulator = options_.half_accumulator;
    plan_.seed = options_.seed;
    plan_.batch = graph_.batch();
    plan_.inputs = graph_.inputs();
    plan_.results = options_.results;
    plan_.nodes = graph_.nodes();
    plan_.values = graph_.values();
    for (Value& v : plan_.values) v.parameter.reset();  // plans are cached, weights are not
    const bool accumulates = options_.accumulate > 1;
    for (Node& node : plan_.nodes) {
      if (node.gradient) {
        node.attrs = plan_.nodes[static_cast<std::size_t>(node.forward)].attrs;
        continue;
      }
      if (node.op == Op::batch_norm) {
        const bool training = options_.training && !node.attrs.flag("frozen", false);
        const Shape& x = value(node.x(0)).shape;
        if (training && count(x) / x.back() < 2)
          throw ShapeError("[" + node.layer +
                           "] training needs more than one value a channel, got "
                           "input " +
                           to_string(x));
        node.attrs.set("training", training);
      }
      if (ir::rule(node.op).loss && accumulates && node.attrs.text("reduction", "") == "mean")
        node.attrs.set("normalize", false);
    }
  }

  // What no gradient reads (as in inference) takes no memory.
  void size_states() {
    std::vector<bool> read(plan_.values.size(), false);
    for (const Node& node : plan_.nodes)
      for (const ValueId v : node.inputs)
        if (v != kNone) read[static_cast<std::size_t>(v)] = true;
    for (const Node& node : plan_.nodes)
      for (std::size_t i = 0; i < node.states.size(); ++i) {
        const auto id = static_cast<std::size_t>(node.states[i]);
        if (value(node.states[i]).shape == Shape{0} && read[id])
          value(node.states[i]).opaque_bytes =
              backend_.state_bytes(plan_, node, static_cast<int>(i));
      }
  }

  // What the forward part must keep: results, values whose gradient is a result, and seeds.
  std::vector<ValueId> forward_roots() const {
    std::vector<ValueId> roots;
    for (const ResultSpec& r : plan_.results) roots.push_back(r.value);
    for (const Seed& s : options_.seeds) roots.push_back(s.value);
    for (const auto& [parameter, index] : explicit_trained_)
      roots.push_back(explicit_.of[static_cast<std::size_t>(parameter)]);
    roots.insert(roots.end(), explicit_losses_.begin(), explicit_losses_.end());
    return roots;
  }

  // Gradient nodes that the graph has already: their losses are seeded, each keeps what its backend
  // reads and what somebody wants of it, and a parameter's parts are summed.
  void adopt_gradients() {
    std::vector<std::size_t> gradients;
    for (std::size_t i = 0; i < plan_.nodes.size(); ++i)
      if (plan_.nodes[i].gradient) gradients.push_back(i);
    if (gradients.empty()) return;
    if (!options_.seeds.empty())
      throw ValueError("a graph with gradient nodes of its own takes no seeds");
    explicit_.of.assign(plan_.values.size(), kNone);
    std::vector<bool> scaled(plan_.values.size(), false);
    const auto scale = [&](ValueId v) {
      scaled.resize(plan_.values.size(), false);
      if (v != kNone) scaled[static_cast<std::size_t>(v)] = true;
    };
    plan_.loss_scale = add_persistent(plan_, "loss_scale", {1}, master_dtype(plan_.dtype));
    scale(plan_.loss_scale);
    std::vector<std::pair<ValueId, ValueId>> parts;  // parameter, a gradient by it
    for (Node& node : plan_.nodes) {
      if (node.op == Op::add && !node.gradient) {  // gradients of branches, summed by hand
        if (scaled[static_cast<std::size_t>(node.inputs[0])] ||
            scaled[static_cast<std::size_t>(node.inputs[1])])
          scale(node.outputs[0]);
        continue;
      }
      if (!node.gradient) continue;
      const Node forward = forward_of(node);
      const ir::Rule& rule = ir::rule(node.op);
      if (rule.loss && node.inputs[0] == kNone) {
        node.inputs[0] = plan_.loss_scale;
        explicit_losses_.push_back(forward.outputs[0]);
      }
      const ir::Reads reads = backend_.saves(plan_, forward, rule.offers);
      for (int i = 0; i < node.nx + node.ny + node.ns; ++i) {
        const int kind = i < node.nx ? 0 : i < node.nx + node.ny ? 1 : 2;
        const int bit = kind == 0 ? i : kind == 1 ? i - node.nx : i - node.nx - node.ny;
        const uint32_t mask = kind == 0 ? reads.x : kind == 1 ? reads.y : reads.state;
        if (bit >= 32 || ((mask >> bit) & 1) == 0)
          node.inputs[static_cast<std::size_t>(node.ny + i)] = kNone;
      }
      bool carries = false;
      for (int i = 0; i < node.ny; ++i)
        carries |= node.gy(i) != kNone && scaled[static_cast<std::size_t>(node.gy(i))];
      for (int i = 0; i < node.nx; ++i) {
        if (carries) scale(node.gx(i));
        if (node.gx(i) != kNone)
          parts.emplace_back(forward.inputs[static_cast<std::size_t>(i)], node.gx(i));
      }
    }
    for (ResultSpec& r : plan_.results)
      if (!r.gradient) r.gradient = scaled[static_cast<std::size_t>(r.value)];
    explicit_trained_ = trained_values();
    for (const auto& [parameter, index] : explicit_trained_)
      for (const auto& [of, gradient] : parts) {
        if (of != parameter) continue;
        ValueId& sum = explicit_.of[static_cast<std::size_t>(parameter)];
        if (sum == kNone) {
          sum = gradient;
          continue;
        }
        Node add;
        add.op = Op::add;
        add.layer = "gradient of " + value(parameter).name;
        add.inputs = {sum, gradient};
        Value made;
        made.shape = value(parameter).shape;
        made.dtype = value(parameter).dtype;
        plan_.values.push_back(std::move(made));
        add.outputs = {sum = static_cast<ValueId>(plan_.values.size()) - 1};
        add.nx = 2;
        add.ny = 1;
        plan_.nodes.push_back(std::move(add));
      }
    explicit_trained_.erase(
        std::remove_if(explicit_trained_.begin(), explicit_trained_.end(),
                       [&](const auto& t) {
                         return explicit_.of[static_cast<std::size_t>(t.first)] == kNone;
                       }),
        explicit_trained_.end());
    drop_unread_gradients();
  }

  // A gradient node computes what a result, a parameter or another node wants of it.
  void drop_unread_gradients() {
    std::vector<bool> read(plan_.values.size(), false);
    for (const ValueId v : forward_roots()) read[static_cast<std::size_t>(v)] = true;
    for (std::size_t i = plan_.nodes.size(); i-- > 0;) {
      Node& node = plan_.nodes[i];
      bool wanted = !node.gradient;
      if (node.gradient)
        for (ValueId& v : node.outputs) {
          if (v != kNone && !read[static_cast<std::size_t>(v)]) v = kNone;
          wanted |= v != kNone;
        }
      if (!wanted) continue;
      for (const ValueId v : node.inputs)
        if (v != kNone) read[static_cast<std::size_t>(v)] = true;
    }
  }

  // Gradient nodes refer to the graph's nodes: elision may have moved the plan's.
  Node forward_of(const Node& gradient) const {
    Node forward = graph_.nodes()[static_cast<std::size_t>(gradient.forward)];
    forward.attrs = gradient.attrs;  // as the compiler has completed them
    return forward;
  }

  std::vector<std::pair<ValueId, std::size_t>> trained_values() const {
    std::vector<std::pair<ValueId, std::size_t>> trained;  // value, index into the spec
    if (!options_.optimizer) return trained;
    const auto& parameters = options_.optimizer->parameters;
    for (std::size_t v = 0; v < graph_.values().size(); ++v) {
      const auto& p = graph_.values()[v].parameter;
      if (!p ||
          std::find(options_.frozen.begin(), options_.frozen.end(), p) != options_.frozen.end())
        continue;
      for (std::size_t i = 0; i < parameters.size(); ++i)
        if (parameters[i].first == p) trained.emplace_back(static_cast<ValueId>(v), i);
    }
    return trained;
  }

  void check_support(bool gradient) const {
    for (const Node& node : plan_.nodes) {
      if (node.gradient != gradient) continue;
      const Support support = backend_.supports(plan_, node);
      if (!support.ok)
        throw UnsupportedError("[" + node.layer + "] " + name_of(node.op) +
                               (gradient ? " gradient" : "") + " on " + backend_.device().id() +
                               ": " + support.reason);
    }
  }

  void differentiate() {
    if (!explicit_.of.empty()) {
      if (options_.optimizer || !explicit_losses_.empty()) {
        const std::vector<Share> shares = find_shares();
        check_accumulation(shares);
        make_update({explicit_}, shares, explicit_trained_);
      }
      return;
    }
    if (options_.seeds.empty()) {
      for (const ResultSpec& r : plan_.results)
        if (r.gradient)
          throw ValueError("result " + r.name + ": there is no loss to differentiate");
      return;
    }
    const DType master = master_dtype(plan_.dtype);
    bool updates = options_.optimizer.has_value();
    for (const Seed& s : options_.seeds) updates |= s.cotangent == kNone;
    if (updates) plan_.loss_scale = add_persistent(plan_, "loss_scale", {1}, master);

    std::vector<bool> exported(plan_.values.size(), false), wanted = exported;
    for (const ResultSpec& r : plan_.results)
      if (r.gradient) exported[static_cast<std::size_t>(r.value)] = true;
    const auto trained = trained_values();
    for (const auto& [v, index] : trained) wanted[static_cast<std::size_t>(v)] = true;

    const std::vector<Share> shares = find_shares();
    const bool accumulates = options_.accumulate > 1;
    if (accumulates && std::find(exported.begin(), exported.end(), true) != exported.end())
      export_gradients(autodiff_normalized(exported));
    if (!accumulates)
      std::transform(wanted.begin(), wanted.end(), exported.begin(), wanted.begin(),
                     std::logical_or<>());
    std::vector<Gradients> gradients;
    for (const Share& share : shares)
      gradients.push_back(autodiff(plan_, options_.seeds, wanted, backend_, share.closed));
    if (!accumulates) export_gradients(gradients[0]);
    if (updates) make_update(gradients, shares, trained);
  }

  // The gradient nodes are the caller's: there is one chain of them, of sums when accumulating.
  void check_accumulation(const std::vector<Share>& shares) const {
    if (options_.accumulate < 2) return;
    if (shares.size() > 1)
      throw UnsupportedError(
          "accumulation of several losses needs gradients by each: TrainingGraph has them, "
          "gradient "
          "nodes made by hand do not");
    for (const ResultSpec& r : plan_.results)
      if (r.gradient && shares[0].weight_sum != kNone)
        throw UnsupportedError("result " + r.name +
                               ": a gradient is no result when accumulating a mean loss");
  }

  void export_gradients(const Gradients& gradients) {
    for (ResultSpec& r : plan_.results) {
      if (!r.gradient) continue;
      r.value = gradients.of[static_cast<std::size_t>(r.value)];
      if (r.value == kNone)
        throw ValueError("result " + r.name + ": the loss does not depend on it");
    }
  }

  // Results are gradients of this step's own loss, whatever is accumulated.
  Gradients autodiff_normalized(const std::vector<bool>& wanted) {
    const std::size_t before = plan_.nodes.size();
    Gradients gradients = autodiff(plan_, options_.seeds, wanted, backend_);
    for (std::size_t i = before; i < plan_.nodes.size(); ++i)
      if (plan_.nodes[i].attrs.has("normalize")) plan_.nodes[i].attrs.set("normalize", true);
    return gradients;
  }

  std::vector<Share> find_shares() const {
    std::vector<Share> shares;
    std::vector<std::size_t> mean, sum;
    for (std::size_t i = 0; i < plan_.nodes.size(); ++i) {
      const Node& node = plan_.nodes[i];
      if (node.gradient || !node.attrs.has("normalize")) continue;
      (node.attrs.flag("normalize") ? sum : mean).push_back(i);
    }
    const auto share = [&](ValueId weights, const std::vector<std::size_t>& open) {
      shares.push_back({weights, std::vector<bool>(plan_.nodes.size(), false)});
      for (const auto* losses : {&mean, &sum})
        for (const std::size_t i : *losses)
          shares.back().closed[i] = std::find(open.begin(), open.end(), i) == open.end();
    };
    for (const std::size_t i : mean) share(plan_.nodes[i].state(0), {i});
    if (mean.empty() || !sum.empty()) share(kNone, sum);
    return shares;
  }

  void make_update(const std::vector<Gradients>& gradients, const std::vector<Share>& shares,
                   const std::vector<std::pair<ValueId, std::size_t>>& trained) {
    const DType master = master_dtype(plan_.dtype);
    ir::Update update;
    update.accumulate = options_.accumulate;
    update.clip_value = options_.clip_value;
    update.clip_norm = options_.clip_norm;
    update.loss_scale = options_.loss_scale;
    update.check_finite = options_.check_finite;
    update.average_decay = options_.ema.value_or(0);
    for (const Seed& s : options_.seeds)
      if (s.cotangent == kNone) update.losses.push_back(s.value);
    update.losses.insert(update.losses.end(), explicit_losses_.begin(), explicit_losses_.end());
    update.counters = add_persistent(plan_, "counters", {ir::kCounters}, DType::int32);
    if (options_.optimizer) {
      const OptimizerSpec& spec = *options_.optimizer;
      int on_host = 0;
      update.kind = spec.kind;
      update.groups = spec.groups;
      for (const auto& [parameter, index] : trained) {
        ir::UpdateItem item;
        item.parameter = parameter;
        add_gradients(item, gradients, spec.names[index]);
        if (item.gradient == kNone) continue;
        item.group = spec.parameters[index].second;
        const Shape shape = value(parameter).shape;
        if (spec.is_on_host(index)) {
          item.host_gradient =
              add_persistent(plan_, spec.names[index] + ":gradient", shape, master);
          ++on_host;
        } else {
          for (const char* name :
               moment_names(spec.kind, spec.groups[static_cast<std::size_t>(item.group)]))
            item.moments.push_back(
                add_persistent(plan_, spec.names[index] + ":" + name, shape, master));
        }
        if (options_.ema)
          item.average = add_persistent(plan_, spec.names[index] + ":average", shape, master);
        update.items.push_back(std::move(item));
      }
      add_statistics(update);
      add_weight_sums(update, shares);
      if (on_host > 0)
        plan_.notes.push_back("updated on the host: " + std::to_string(on_host) +
                              " arrays; one step in flight");
    }
    plan_.update = std::move(update);
  }

  void add_statistics(ir::Update& update) {
    for (const Node& node : plan_.nodes) {
      if (node.op != Op::batch_norm || node.gradient || !node.attrs.flag("training", false) ||
          node.nx < 5)
        continue;
      const Shape& x = value(node.x(0)).shape;
      const auto n = static_cast<double>(count(x) / x.back());
      const double momentum = node.attrs.number("momentum");
      const bool counts = node.ns > 2;
      update.statistics.push_back({node.x(3), node.state(0), momentum, 1, kNone});
      update.statistics.push_back({node.x(4), node.state(1), momentum, counts ? 1 : n / (n - 1),
                                   counts ? node.state(2) : kNone});
    }
  }

  void add_gradients(ir::UpdateItem& item, const std::vector<Gradients>& gradients,
                     const std::string& name) {
    for (std::size_t i = 0; i < gradients.size(); ++i) {
      ir::GradientShare share;
      share.gradient = gradients[i].of[static_cast<std::size_t>(item.parameter)];
      if (share.gradient == kNone) continue;
      share.share = i;
      const bool first = item.gradient == kNone;
      if (options_.accumulate > 1)
        share.accumulator = add_persistent(plan_, name + ":sum" + (first ? "" : std::to_string(i)),
                                           value(item.parameter).shape, master_dtype(plan_.dtype));
      if (!first) {
        item.further.push_back(share);
        continue;
      }
      item.gradient = share.gradient;
      item.accumulator = share.accumulator;
      item.share = i;
    }
  }

  void add_weight_sums(ir::Update& update, const std::vector<Share>& shares) {
    if (options_.accumulate < 2) return;
    for (std::size_t i = 0; i < shares.size(); ++i) {
      ir::WeightShare weights;
      weights.sum = shares[i].weight_sum;
      if (weights.sum != kNone)
        weights.total = add_persistent(plan_, "weight_total" + (i == 0 ? "" : std::to_string(i)),
                                       {1}, master_dtype(plan_.dtype));
      if (i > 0) {
        update.further.push_back(weights);
        continue;
      }
      update.weight_sum = weights.sum;
      update.weight_total = weights.total;
    }
  }

  // What is read after the last node.
  std::vector<ValueId> end_roots() const {
    std::vector<ValueId> roots;
    for (const ResultSpec& r : plan_.results) roots.push_back(r.value);
    if (plan_.update) {
      for (const auto& item : plan_.update->items) {
        roots.push_back(item.gradient);
        for (const auto& share : item.further) roots.push_back(share.gradient);
      }
      for (const auto& s : plan_.update->statistics) roots.insert(roots.end(), {s.batch, s.count});
      for (const ValueId v : plan_.update->losses) roots.push_back(v);
      roots.push_back(plan_.update->weight_sum);
      for (const auto& share : plan_.update->further) roots.push_back(share.sum);
    }
    return roots;
  }

  void bind_persistents() {
    std::vector<bool> used(plan_.values.size(), false);
    for (const Node& node : plan_.nodes)
      for (const ValueId v : node.inputs)
        if (v != kNone) used[static_cast<std::size_t>(v)] = true;
    for (const ResultSpec& r : plan_.results) used[static_cast<std::size_t>(r.value)] = true;
    if (plan_.update)
      for (const auto& item : plan_.update->items)
        used[static_cast<std::size_t>(item.parameter)] = true;
    for (std::size_t v = 0; v < plan_.values.size(); ++v) {
      if (plan_.values[v].kind != ValueKind::persistent) continue;
      const bool is_parameter = v < graph_.values().size();
      if (!is_parameter || used[v]) plan_.persistents.push_back(static_cast<ValueId>(v));
    }
  }

  const Graph& graph_;
  const ProgramOptions& options_;
  const runtime::Backend& backend_;
  bool optimize_;
  ir::Plan plan_;
  // Of a graph with gradient nodes of its own; else empty.
  Gradients explicit_;
  std::vector<std::pair<ValueId, std::size_t>> explicit_trained_;
  std::vector<ValueId> explicit_losses_;
};

}  // namespace

std::shared_ptr<const ir::Plan> make_plan(const Graph& graph, const ProgramOptions& options,
                                          const runtime::Backend& backend) {
  ir::Plan plan = Builder(graph, options, backend, options.optimize).build();
  if (options.optimize)
    plan.naive_bytes = Builder(graph, options, backend, false).build().naive_bytes;
  return std::make_shared<const ir::Plan>(std::move(plan));
}

}  // namespace mpsnn::compile
