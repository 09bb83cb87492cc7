// Program and Step. encode is the hot path: one pass over the arguments, no Python object made but
// the Step. Every wait releases the GIL and looks for signals, which only the main thread ever
// sees.
#include "mpsnn/program.h"

#include "bindings.h"
#include "mpsnn/error.h"

namespace mpsnn::bindings {
namespace {

// Destruction waits for queued steps, so it must not hold the GIL.
struct Unlocked {
  std::shared_ptr<Program> program;
  std::vector<std::string> inputs;
  Unlocked(std::shared_ptr<Program> p, std::vector<std::string> names)
      : program(std::move(p)), inputs(std::move(names)) {}
  ~Unlocked() {
    const py::gil_scoped_release release;
    program.reset();
  }
  Unlocked(const Unlocked&) = delete;
  Unlocked& operator=(const Unlocked&) = delete;
};

// A function that threads without the GIL may hold and drop.
std::shared_ptr<py::function> unlocked(py::function f) {
  return std::shared_ptr<py::function>(new py::function(std::move(f)), [](py::function* p) {
    if (Py_IsInitialized() == 0) return;  // the interpreter is gone, and the object with it
    const py::gil_scoped_acquire gil;
    delete p;
  });
}

double number(const py::dict& d, const char* key, double otherwise) {
  return d.contains(key) ? d[key].cast<double>() : otherwise;
}

// f([(name, weights, gradient, rate), ...]) returns the new weights, or None for those that stay.
HostUpdate host_update_of(py::function f, const std::vector<std::string>& names) {
  const std::shared_ptr<py::function> kept = unlocked(std::move(f));
  return [kept, names](std::vector<HostItem>& items) {
    if (Py_IsInitialized() == 0) throw DeviceError("the interpreter has ended");
    const py::gil_scoped_acquire gil;
    py::list given;
    for (const HostItem& item : items)
      given.append(py::make_tuple(names[item.parameter], to_numpy(item.weights.clone()),
                                  to_numpy(item.gradient), item.rate));
    const auto made = (*kept)(given).cast<py::list>();
    if (made.size() != items.size()) throw TypeError("a host update returns one array an item");
    std::vector<Tensor> arrays(items.size());
    for (std::size_t i = 0; i < items.size(); ++i) {
      if (made[i].is_none()) continue;
      arrays[i] = to_tensor(made[i]);
      if (!is_floating(arrays[i].dtype()))
        throw DTypeError("[" + names[items[i].parameter] + "] the update must return floats, got " +
                         name_of(arrays[i].dtype()));
    }
    for (std::size_t i = 0; i < items.size(); ++i)
      if (arrays[i]) items[i].weights = arrays[i];
  };
}

OptimizerSpec optimizer_of(const py::dict& d) {
  OptimizerSpec spec;
  const auto kind = d["kind"].cast<std::string>();
  if (kind == "sgd")
    spec.kind = OptimizerKind::sgd;
  else if (kind == "adam")
    spec.kind = OptimizerKind::adam;
  else if (kind == "adamw")
    spec.kind = OptimizerKind::adamw;
  else if (kind == "rmsprop")
    spec.kind = OptimizerKind::rmsprop;
  else
    throw ValueError("unknown optimizer '" + kind + "'");
  for (const py::handle item : d["groups"]) {
    const auto g = item.cast<py::dict>();
    Hyper h;
    h.momentum = number(g, "momentum", h.momentum);
    h.dampening = number(g, "dampening", h.dampening);
    h.nesterov = number(g, "nesterov", 0) != 0;
    h.beta1 = number(g, "beta1", h.beta1);
    h.beta2 = number(g, "beta2", h.beta2);
    h.epsilon = number(g, "epsilon", h.epsilon);
    h.alpha = number(g, "alpha", h.alpha);
    h.centered = number(g, "centered", 0) != 0;
    h.weight_decay = number(g, "weight_decay", h.weight_decay);
    spec.groups.push_back(h);
  }
  for (const py::handle item : d["parameters"]) {
    const auto t = item.cast<py::tuple>();
    const int group = t[1].cast<int>();
    if (group < 0 || group >= static_cast<int>(spec.groups.size()))
      throw ValueError("a parameter is in no group");
    spec.parameters.emplace_back(t[0].cast<std::shared_ptr<Parameter>>(), group);
    spec.names.push_back(t[2].cast<std::string>());
    spec.on_host.push_back(t.size() > 3 && t[3].cast<bool>());
  }
  if (d.contains("host_update") && !d["host_update"].is_none())
    spec.host_update = host_update_of(d["host_update"].cast<py::function>(), spec.names);
  for (const bool on_host : spec.on_host)
    if (on_host && !spec.host_update) throw ValueError("there is no function that updates");
  return spec;
}

LossScale loss_scale_of(const py::dict& d) {
  LossScale scale;
  const auto mode = d["mode"].cast<std::string>();
  if (mode == "fixed")
    scale.mode = LossScale::Mode::fixed;
  else if (mode == "dynamic")
    scale.mode = LossScale::Mode::dynamic;
  else if (mode != "none")
    throw ValueError("unknown loss scale mode '" + mode + "'");
  scale.initial = number(d, "initial", scale.mode == LossScale::Mode::dynamic ? 65536 : 1);
  scale.growth_interval = static_cast<int>(number(d, "growth_interval", 2000));
  if (!(scale.initial > 0)) throw ValueError("the loss scale must be positive");
  return scale;
}

std::unique_ptr<Unlocked> compile(
    const Graph& graph, const std::string& device, bool training, uint64_t seed,
    bool half_accumulator, const std::vector<std::pair<ValueId, ValueId>>& seeds,
    const std::vector<std::tuple<std::string, ValueId, bool>>& results,
    const std::optional<py::dict>& optimizer, const std::vector<std::shared_ptr<Parameter>>& frozen,
    int accumulate, std::optional<double> clip_value, std::optional<double> clip_norm,
    const std::optional<py::dict>& loss_scale, std::optional<double> ema, bool check_finite,
    bool recompute, bool optimize, const Unlocked* continues) {
  ProgramOptions o;
  o.device = device;
  o.training = training;
  o.seed = seed;
  o.half_accumulator = half_accumulator;
  for (const auto& [value, cotangent] : seeds) {
    graph.value(value);
    if (cotangent != kNone) graph.value(cotangent);
    o.seeds.push_back({value, cotangent});
  }
  for (const auto& [name, value, gradient] : results) {
    graph.value(value);
    o.results.push_back({name, value, gradient});
  }
  if (optimizer) o.optimizer = optimizer_of(*optimizer);
  o.frozen = frozen;
  o.accumulate = accumulate;
  o.clip_value = clip_value;
  o.clip_norm = clip_norm;
  if (loss_scale) o.loss_scale = loss_scale_of(*loss_scale);
  o.ema = ema;
  o.recompute = recompute;
  o.check_finite = check_finite;
  o.optimize = optimize;
  if (continues != nullptr) o.continues = continues->program;
  std::vector<std::string> inputs;
  for (const ValueId v : graph.inputs()) inputs.push_back(graph.value(v).name);
  const py::gil_scoped_release release;
  return std::make_unique<Unlocked>(Program::compile(graph, o), std::move(inputs));
}

Step encode(Unlocked& self, const py::tuple& inputs, const py::tuple& rates) {
  // Kept between calls for their capacity; a nested call (a signal handler's) takes fresh ones.
  static thread_local std::vector<HostView> kept_views;
  static thread_local std::vector<double> kept_rates;
  std::vector<HostView> views = std::move(kept_views);
  std::vector<double> numbers = std::move(kept_rates);
  views.resize(inputs.size());
  std::vector<py::object> alive;
  alive.reserve(inputs.size());
  for (std::size_t i = 0; i < views.size(); ++i) {
    try {
      alive.push_back(view_of(inputs[i], views[i]));
    } catch (const DTypeError& e) {
      throw DTypeError("[input " + (i < self.inputs.size() ? self.inputs[i] : "") + "] " +
                       e.what());
    }
  }
  numbers.clear();
  for (const py::handle rate : rates) numbers.push_back(rate.cast<double>());
  std::optional<Step> step;
  {
    const py::gil_scoped_release release;
    step = self.program->encode(views, numbers, check_signals);
  }
  kept_views = std::move(views);
  kept_rates = std::move(numbers);
  return *step;
}

std::function<void()> unlocked_callback(py::function f) {
  const std::shared_ptr<py::function> kept = unlocked(std::move(f));
  return [kept] {
    if (Py_IsInitialized() == 0) return;
    const py::gil_scoped_acquire gil;
    try {
      (*kept)();
    } catch (py::error_already_set& e) {
      e.discard_as_unraisable("a step's done callback");
    }
  };
}

py::list state_list(Unlocked& self) {
  std::vector<std::pair<std::string, Tensor>> state;
  {
    const py::gil_scoped_release release;
    state = self.program->state();
  }
  py::list list;
  for (const auto& [name, value] : state) list.append(py::make_tuple(name, to_numpy(value)));
  return list;
}

}  // namespace

void bind_program(py::module_& m) {
  py::class_<Step>(m, "Step", "One submitted step.")
      .def_property_readonly("index", &Step::index)
      .def_property_readonly("updated", &Step::updated)
      .def("done", &Step::done)
      .def(
          "wait",
          [](const Step& step, std::optional<double> timeout) {
            const py::gil_scoped_release release;
            return step.wait(timeout, check_signals);
          },
          py::arg("timeout") = py::none())
      .def("result", &Step::result, py::arg("i"))
      .def(
          "add_done_callback",
          [](const Step& step, py::function f) {
            auto callback = unlocked_callback(std::move(f));
            const py::gil_scoped_release release;
            step.add_done_callback(std::move(callback));
          },
          py::arg("callback"));

  py::class_<Unlocked>(m, "Program", "A graph compiled for a device.")
      .def_static(
          "compile", &compile, py::arg("graph"), py::kw_only(), py::arg("device"),
          py::arg("training") = false, py::arg("seed") = 0, py::arg("half_accumulator") = false,
          py::arg("seeds") = std::vector<std::pair<ValueId, ValueId>>{},
          py::arg("results") = std::vector<std::tuple<std::string, ValueId, bool>>{},
          py::arg("optimizer") = py::none(),
          py::arg("frozen") = std::vector<std::shared_ptr<Parameter>>{}, py::arg("accumulate") = 1,
          py::arg("clip_value") = py::none(), py::arg("clip_norm") = py::none(),
          py::arg("loss_scale") = py::none(), py::arg("ema") = py::none(),
          py::arg("check_finite") = true, py::arg("recompute") = false, py::arg("optimize") = true,
          py::arg("continues") = py::none())
      .def("encode", &encode, py::arg("inputs"), py::arg("rates"))
      .def("wait",
           [](Unlocked& self) {
             const py::gil_scoped_release release;
             self.program->wait(check_signals);
           })
      .def("encoded", [](const Unlocked& self) { return self.program->encoded(); })
      .def("encoded_updates", [](const Unlocked& self) { return self.program->encoded_updates(); })
      .def("planned_bytes", [](const Unlocked& self) { return self.program->planned_bytes(); })
      .def("packed_bytes", [](const Unlocked& self) { return self.program->packed_bytes(); })
      .def("naive_bytes", [](const Unlocked& self) { return self.program->naive_bytes(); })
      .def("notes", [](const Unlocked& self) { return self.program->notes(); })
      .def("to_dot", [](const Unlocked& self) { return self.program->to_dot(); })
      .def("summary",
           [](const Unlocked& self) {
             py::list rows;
             for (const SummaryRow& row : self.program->summary()) {
               py::list outputs;
               for (const Shape& shape : row.outputs) outputs.append(to_tuple(shape));
               rows.append(py::dict(py::arg("layer") = row.layer, py::arg("op") = row.op,
                                    py::arg("detail") = row.detail, py::arg("outputs") = outputs,
                                    py::arg("parameters") = row.parameters,
                                    py::arg("operations") = row.operations,
                                    py::arg("bytes") = row.bytes));
             }
             return rows;
           })
      .def("record",
           [](Unlocked& self) {
             const py::gil_scoped_release release;
             self.program->record();
           })
      .def("recorded",
           [](Unlocked& self) {
             std::vector<Span> spans;
             {
               const py::gil_scoped_release release;
               spans = self.program->recorded();
             }
             py::list list;
             for (const Span& s : spans) list.append(py::make_tuple(s.node, s.begin, s.end));
             return list;
           })
      .def("state", &state_list)
      .def(
          "load_state",
          [](Unlocked& self, const std::vector<std::pair<std::string, py::object>>& state) {
            std::vector<std::pair<std::string, Tensor>> values;
            for (const auto& [name, value] : state) values.emplace_back(name, to_tensor(value));
            const py::gil_scoped_release release;
            self.program->load_state(values);
          },
          py::arg("state"));
}

}  // namespace mpsnn::bindings
