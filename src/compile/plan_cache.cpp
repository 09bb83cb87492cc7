// The last plans, least recently used out first. A key is the full contents of graph and options,
// written field by field, so that equal keys mean equal plans.
#include <list>
#include <mutex>
#include <type_traits>

#include "compile/plan.h"
#include "mpsnn/log.h"

namespace mpsnn::compile {
namespace {

constexpr std::size_t kCapacity = 128;

class Key {
 public:
  Key(const Graph& graph, const ProgramOptions& o, const std::string& device) {
    add(device);
    add(graph.dtype());
    for (const Value& v : graph.values()) {
      add(v.kind);
      add(v.dtype);
      add(v.shape);
      add(v.name);
      add(v.input.batched);
      add(v.input.optional);
    }
    for (const Node& n : graph.nodes()) {
      add(n.op);
      add(n.gradient);
      add(n.differentiated);
      add(n.forward);
      add(n.layer);
      add(n.inputs);
      add(n.outputs);
      add(n.states);
      for (const auto& [name, attr] : n.attrs.items()) {
        add(name);
        add(attr.index());
        std::visit([this](const auto& x) { add(x); }, attr);
      }
    }
    add(graph.inputs());
    add(o.training);
    add(o.seed);
    add(o.half_accumulator);
    add(o.accumulate);
    add(o.check_finite);
    add(o.optimize);
    add(o.clip_value.value_or(-1));
    add(o.clip_norm.value_or(-1));
    add(o.ema.value_or(-1));
    add(o.recompute);
    add(o.loss_scale.mode);
    add(o.loss_scale.initial);
    add(o.loss_scale.growth_interval);
    add(o.loss_scale.most);
    for (const Seed& s : o.seeds) {
      add(s.value);
      add(s.cotangent);
    }
    add(o.results.size());
    for (const ResultSpec& r : o.results) {
      add(r.name);
      add(r.value);
      add(r.gradient);
    }
    const auto parameter = [&](const std::shared_ptr<Parameter>& p) {
      for (std::size_t i = 0; i < graph.values().size(); ++i)
        if (graph.values()[i].parameter == p) return i;
      return graph.values().size();
    };
    add(o.frozen.size());
    for (const auto& p : o.frozen) add(parameter(p));
    if (!o.optimizer) return;
    add(o.optimizer->kind);
    for (const Hyper& h : o.optimizer->groups)
      for (const double x : {h.momentum, h.dampening, h.nesterov ? 1.0 : 0.0, h.beta1, h.beta2,
                             h.epsilon, h.alpha, h.centered ? 1.0 : 0.0, h.weight_decay})
        add(x);
    for (std::size_t i = 0; i < o.optimizer->parameters.size(); ++i) {
      add(parameter(o.optimizer->parameters[i].first));
      add(o.optimizer->parameters[i].second);
      add(o.optimizer->names[i]);
      add(o.optimizer->is_on_host(i));
    }
  }
  bool operator==(const Key& other) const { return bytes_ == other.bytes_; }

 private:
  template <class T>
  std::enable_if_t<std::is_trivially_copyable_v<T>> add(const T& x) {
    bytes_.append(reinterpret_cast<const char*>(&x), sizeof x);
  }
  void add(const std::string& text) {
    add(text.size());
    bytes_ += text;
  }
  template <class T>
  void add(const std::vector<T>& list) {
    add(list.size());
    for (const T& x : list) add(x);
  }
  std::string bytes_;
};

struct Cache {
  std::mutex mutex;
  std::list<std::pair<Key, std::shared_ptr<const ir::Plan>>> entries;  // newest first
};

}  // namespace

std::shared_ptr<const ir::Plan> cached_plan(const Graph& graph, const ProgramOptions& options,
                                            const runtime::Backend& backend) {
  static Cache& cache = *new Cache;  // never destroyed: threads may outlive main
  Key key(graph, options, backend.device().id());
  {
    const std::lock_guard lock(cache.mutex);
    for (auto it = cache.entries.begin(); it != cache.entries.end(); ++it)
      if (it->first == key) {
        cache.entries.splice(cache.entries.begin(), cache.entries, it);
        return cache.entries.front().second;
      }
  }
  auto plan = make_plan(graph, options, backend);
  if (log::enabled(log::Level::debug)) {
    log::write(log::Level::debug, "compiled " + std::to_string(plan->nodes.size()) + " nodes for " +
                                      backend.device().id() + ", batch " +
                                      std::to_string(plan->batch));
    for (const std::string& note : plan->notes) log::write(log::Level::debug, note);
  }
  const std::lock_guard lock(cache.mutex);
  cache.entries.emplace_front(std::move(key), plan);
  if (cache.entries.size() > kCapacity) cache.entries.pop_back();
  return plan;
}

}  // namespace mpsnn::compile
