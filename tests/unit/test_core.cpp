// Types, shapes, attributes and tensors, and what their errors say.
#include <doctest/doctest.h>

#include <atomic>
#include <cstdint>
#include <cstring>
#include <limits>

#include "core/host_info.h"
#include "ir/broadcast.h"
#include "message.h"
#include "mpsnn/attrs.h"
#include "mpsnn/dtype.h"
#include "mpsnn/error.h"
#include "mpsnn/log.h"
#include "mpsnn/tensor.h"

using namespace mpsnn;

TEST_CASE("dtypes have names, sizes and masters") {
  const std::pair<const char*, std::size_t> expected[] = {
      {"float32", 4}, {"float16", 2}, {"bfloat16", 2}, {"float64", 8},
      {"int32", 4},   {"int64", 8},   {"uint8", 1},
  };
  for (const auto& [text, size] : expected) {
    const std::string name = text;
    CAPTURE(name);
    const DType dtype = parse_dtype(name);
    CHECK(name_of(dtype) == name);
    CHECK(size_of(dtype) == size);
    CHECK(is_floating(dtype) == contains(name, "float"));
    CHECK(master_dtype(dtype) == (dtype == DType::float64 ? DType::float64 : DType::float32));
  }
  const std::string message = message_of<ValueError>([] { parse_dtype("float8"); });
  CHECK(contains(message, "'float8'"));
  CHECK(contains(message, "bfloat16, float64"));
  CHECK_THROWS_AS(parse_dtype(""), ValueError);
}

TEST_CASE("shapes count with overflow checks and print like Python's tuples") {
  CHECK(count({}) == 1);
  CHECK(count({3, 4, 5}) == 60);
  CHECK(count({3, 0, 5}) == 0);
  CHECK(count({std::numeric_limits<int64_t>::max()}) == std::numeric_limits<int64_t>::max());
  CHECK_THROWS_AS(count({int64_t{1} << 32, int64_t{1} << 31}), OutOfMemoryError);
  CHECK(contains(message_of<ShapeError>([] { count({2, -1}); }), "(2, -1)"));
  CHECK(to_string(Shape{}) == "()");
  CHECK(to_string(Shape{7}) == "(7,)");
  CHECK(to_string(Shape{64, 8, 8, 1}) == "(64, 8, 8, 1)");
}

TEST_CASE("attributes are sorted by name, typed, and compare by contents") {
  Attrs a, b;
  a.set("stride", std::vector<int64_t>{2, 1});
  a.set("epsilon", 1e-5);
  a.set("groups", int64_t{4});
  a.set("bias", true);
  a.set("kind", std::string("relu"));
  a.set("weight", std::vector<double>{0.5, 2});
  b.set("weight", std::vector<double>{0.5, 2});
  b.set("kind", std::string("tanh"));
  b.set("kind", std::string("relu"));
  b.set("bias", true);
  b.set("groups", int64_t{4});
  b.set("epsilon", 1e-5);
  CHECK_FALSE(a == b);
  b.set("stride", std::vector<int64_t>{2, 1});
  CHECK(a == b);
  CHECK(b.items().size() == 6);
  for (std::size_t i = 1; i < a.items().size(); ++i) {
    CHECK(a.items()[i - 1].first < a.items()[i].first);
  }

  CHECK(a.has("bias"));
  CHECK_FALSE(a.has("bia"));
  CHECK_FALSE(a.has("biass"));
  CHECK(a.flag("bias"));
  CHECK(a.integer("groups") == 4);
  CHECK(a.number("epsilon") == 1e-5);
  CHECK(a.number("groups") == 4.0);
  CHECK(a.text("kind") == "relu");
  CHECK(a.integers("stride") == std::vector<int64_t>{2, 1});
  CHECK(a.numbers("weight") == std::vector<double>{0.5, 2});
  CHECK(a.numbers("stride") == std::vector<double>{2, 1});

  CHECK(a.flag("absent", true));
  CHECK(a.integer("absent", 7) == 7);
  CHECK(a.number("absent", 0.5) == 0.5);
  CHECK(a.number("groups", 0.5) == 4.0);
  CHECK(a.text("absent", "none") == "none");
  CHECK(a.text("kind", "none") == "relu");

  CHECK(message_of<TypeError>([&] { a.integer("absent"); }) == "attribute 'absent' is missing");
  CHECK(message_of<TypeError>([&] { a.integer("epsilon"); }) ==
        "attribute 'epsilon' must be an integer, got a number");
  CHECK(message_of<TypeError>([&] { a.number("kind", 1); }) ==
        "attribute 'kind' must be a number, got text");
  CHECK_THROWS_AS(a.flag("groups"), TypeError);
  CHECK_THROWS_AS(a.integer("bias", 1), TypeError);
  CHECK_THROWS_AS(a.text("stride"), TypeError);
  CHECK_THROWS_AS(a.integers("weight"), TypeError);
  CHECK_THROWS_AS(a.numbers("groups"), TypeError);
}

TEST_CASE("tensors are aligned, shared when copied, apart when cloned") {
  for (const int64_t n : {0, 1, 3, 1000, 300000}) {
    Tensor t({n, 3}, DType::float32);
    CHECK(reinterpret_cast<std::uintptr_t>(t.data()) % 64 == 0);
    CHECK(static_cast<bool>(t));
    CHECK(t.count() == 3 * n);
    CHECK(t.bytes() == static_cast<std::size_t>(12 * n));
    if (n != 0) std::memset(t.data(), 1, t.bytes());
    const Tensor shared = t;
    CHECK(shared.data() == t.data());
    t.set_device("reference");
    const Tensor apart = t.clone();
    CHECK(apart.data() != t.data());
    CHECK(apart.shape() == t.shape());
    CHECK(apart.device() == "reference");
    CHECK(std::memcmp(apart.data(), t.data(), t.bytes()) == 0);
  }
  const Tensor none;
  CHECK_FALSE(static_cast<bool>(none));
  CHECK_FALSE(static_cast<bool>(none.clone()));
  CHECK_FALSE(static_cast<bool>(none.to(DType::int64)));
}

TEST_CASE("absurd tensors are refused with their size") {
  CHECK(contains(message_of<OutOfMemoryError>([] { Tensor({1 << 25, 1 << 25}, DType::float32); }),
                 "4503599627370496 bytes, an array of shape (33554432, 33554432)"));
  CHECK_THROWS_AS(Tensor({int64_t{1} << 62}, DType::float64), OutOfMemoryError);
  CHECK_THROWS_AS(Tensor({int64_t{1} << 40, int64_t{1} << 40}, DType::uint8), OutOfMemoryError);
  CHECK_THROWS_AS(Tensor({int64_t{1} << 62}, DType::float64, nullptr), OutOfMemoryError);
  CHECK_THROWS_AS(Tensor({-1}, DType::uint8), ShapeError);
}

TEST_CASE("the host has a name, memory and cores") {
  CHECK_FALSE(host::cpu_name().empty());
  CHECK(host::total_memory() > (int64_t{1} << 26));
  CHECK(host::physical_cores() >= 1);
  CHECK(host::physical_cores() <= 4096);
}

namespace {
std::atomic<int> messages{0};
std::string last_message;
}  // namespace

TEST_CASE("messages reach the sink") {
  messages = 0;
  log::set_sink([](log::Level level, const std::string& message) {
    if (level == log::Level::debug) return;
    ++messages;
    last_message = message;
  });
  CHECK(log::enabled(log::Level::info));
  log::write(log::Level::info, "one");
  log::write(log::Level::warning, "two");
  log::set_sink(nullptr);
  CHECK(messages == 2);
  CHECK(last_message == "two");
  CHECK(log::enabled(log::Level::warning));
}

TEST_CASE("broadcast: NumPy's rules, but for the batch") {
  CHECK(ir::broadcast({2, 3, 4}, {4}) == Shape{2, 3, 4});
  CHECK(ir::broadcast({3, 1}, {2, 1, 4}) == Shape{2, 3, 4});
  CHECK(ir::broadcast({2, 3, 1}, {2, 1, 4}) == Shape{2, 3, 4});
  CHECK(ir::broadcast({}, {2}) == Shape{2});
  CHECK(!ir::broadcast({2, 3}, {1, 3}));
  CHECK(!ir::broadcast({1}, {2}));
  CHECK(!ir::broadcast({2, 3}, {2, 2}));
  CHECK(!ir::broadcast({2, 3, 4}, {2, 4}));
  CHECK(ir::broadcast_strides({3, 1}, {2, 3, 4}) == Shape{0, 1, 0});
  CHECK(ir::broadcast_strides({2, 1, 4}, {2, 3, 4}) == Shape{4, 0, 1});
  CHECK(ir::reduced({2, 3, 4}, {1, 2}) == Shape{2, 1, 1});
}
