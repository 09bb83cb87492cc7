// Parameter and Graph: what a trace in Python appends to.
#include "mpsnn/graph.h"

#include "bindings.h"
#include "mpsnn/error.h"

namespace mpsnn::bindings {
namespace {

Attr to_attr(const std::string& name, const py::handle& value) {
  if (py::isinstance<py::bool_>(value)) return value.cast<bool>();
  if (PyIndex_Check(value.ptr())) return py::cast<int64_t>(value.attr("__index__")());
  if (py::isinstance<py::str>(value)) return value.cast<std::string>();
  if (PyFloat_Check(value.ptr())) return value.cast<double>();
  if (py::isinstance<py::sequence>(value)) {
    bool integers = name != "weight" && name != "weights";
    for (const py::handle v : value) integers &= PyIndex_Check(v.ptr()) != 0;
    if (integers) return to_shape(value);
    return value.cast<std::vector<double>>();
  }
  throw TypeError("attribute " + name + " is neither a number, text nor a list of numbers");
}

constexpr bool kStatesPerImage[] = {
#define OP(name, inputs, optional, outputs, states, per_image) per_image,
#include "mpsnn/ops.def"
#undef OP
};

}  // namespace

void bind_graph(py::module_& m) {
  py::class_<Parameter, std::shared_ptr<Parameter>>(m, "Parameter",
                                                    "A model's array, shared by all its graphs.")
      .def(py::init([](const py::object& value, bool buffer) {
             return std::make_shared<Parameter>(to_tensor(value), buffer);
           }),
           py::arg("value"), py::arg("buffer") = false)
      .def_property_readonly("shape", [](const Parameter& p) { return to_tuple(p.shape()); })
      .def_property_readonly("dtype", [](const Parameter& p) { return name_of(p.dtype()); })
      .def_property_readonly("buffer", &Parameter::is_buffer)
      .def(
          "read",
          [](const Parameter& p) {
            Tensor value;
            {
              const py::gil_scoped_release release;
              value = p.read();
            }
            return to_numpy(value);
          },
          "A fresh canonical copy; waits for the steps that write it.")
      .def(
          "write",
          [](Parameter& p, const py::object& value) {
            const Tensor tensor = to_tensor(value);
            const py::gil_scoped_release release;
            p.write(tensor);
          },
          py::arg("value"));

  py::class_<Graph>(m, "Graph", "Values and nodes; shapes are inferred as nodes are added.")
      .def(py::init([](const std::string& dtype) { return Graph(parse_dtype(dtype)); }),
           py::arg("dtype") = "float32")
      .def_property_readonly("dtype", [](const Graph& g) { return name_of(g.dtype()); })
      .def(
          "input",
          [](Graph& g, const std::string& name, const py::object& shape,
             const std::optional<std::string>& dtype, bool batched, int64_t classes,
             int64_t ignore_index, bool optional) {
            return g.add_input(name, to_shape(shape), dtype ? parse_dtype(*dtype) : g.dtype(),
                               {batched, classes, ignore_index, optional});
          },
          py::arg("name"), py::arg("shape"), py::arg("dtype") = py::none(), py::kw_only(),
          py::arg("batched") = true, py::arg("classes") = 0, py::arg("ignore_index") = -100,
          py::arg("optional") = false)
      .def(
          "make_indices",
          [](Graph& g, ValueId input, int64_t classes) {
            g.value(input);  // it is there
            g.make_indices(input, classes);
          },
          py::arg("input"), py::arg("classes"))
      .def("parameter", &Graph::add_parameter, py::arg("name"), py::arg("parameter"))
      .def(
          "add",
          [](Graph& g, const std::string& op, const std::vector<ValueId>& operands,
             const py::dict& attrs, const std::string& layer) {
            Attrs made;
            for (const auto& [key, value] : attrs) {
              const auto name = key.cast<std::string>();
              made.set(name, to_attr(name, value));
            }
            return py::tuple(py::cast(g.add(op, operands, std::move(made), layer)));
          },
          py::arg("op"), py::arg("operands"), py::arg("attrs"), py::arg("layer"))
      .def(
          "gradient",
          [](Graph& g, ValueId y, const std::vector<ValueId>& gy) {
            return py::tuple(py::cast(g.add_gradient(y, gy)));
          },
          py::arg("y"), py::arg("gy"),
          "Appends the gradient node of y's node; the gradient by each operand, -1 for none.")
      .def(
          "nodes",
          [](const Graph& g) {
            py::list nodes;
            for (const Node& n : g.nodes())
              nodes.append(py::make_tuple(name_of(n.op), n.gradient, py::tuple(py::cast(n.inputs)),
                                          py::tuple(py::cast(n.outputs))));
            return nodes;
          },
          "(op, is a gradient, operands, outputs) of each node, in order.")
      .def(
          "states",
          [](const Graph& g, ValueId v) -> py::object {
            for (const Node& n : g.nodes())
              for (const ValueId y : n.outputs)
                if (y == v && !n.states.empty())
                  return py::make_tuple(n.layer, kStatesPerImage[static_cast<std::size_t>(n.op)]);
            return py::none();
          },
          "(layer, is there one an image) of the states that v's node makes.")
      .def("with_batch", &Graph::with_batch, py::arg("batch"))
      .def("is_parameter",
           [](const Graph& g, ValueId v) { return g.value(v).kind == ValueKind::persistent; })
      .def("shape", [](const Graph& g, ValueId v) { return to_tuple(g.value(v).shape); })
      .def("value_dtype", [](const Graph& g, ValueId v) { return name_of(g.value(v).dtype); })
      .def("batch", &Graph::batch)
      .def("inputs", &Graph::inputs);

  m.def("op_table", [] {
    struct Row {
      const char* name;
      int inputs, optional, outputs, states;
    };
    static constexpr Row rows[] = {
#define OP(name, inputs, optional, outputs, states, per_image) \
  {#name, inputs, optional, outputs, states},
#include "mpsnn/ops.def"
#undef OP
    };
    py::list table;
    for (const Row& row : rows)
      table.append(py::dict(py::arg("name") = row.name, py::arg("inputs") = row.inputs,
                            py::arg("optional") = row.optional, py::arg("outputs") = row.outputs,
                            py::arg("states") = row.states));
    return table;
  });
}

}  // namespace mpsnn::bindings
