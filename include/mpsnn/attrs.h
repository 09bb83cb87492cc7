// The attributes of a node: a small map sorted by name, so that two equal nodes compare equal and a
// plan's key is simply its contents.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace mpsnn {

using Attr =
    std::variant<bool, int64_t, double, std::string, std::vector<int64_t>, std::vector<double>>;

class Attrs {
 public:
  bool has(std::string_view name) const { return find(name) != nullptr; }
  void set(std::string_view name, Attr value);

  // Each raises TypeError when the attribute is missing or of another type; an int serves as a
  // double.
  bool flag(std::string_view name) const;
  int64_t integer(std::string_view name) const;
  double number(std::string_view name) const;
  const std::string& text(std::string_view name) const;
  const std::vector<int64_t>& integers(std::string_view name) const;
  std::vector<double> numbers(std::string_view name) const;
  // Copies `count` numbers without allocating; false where there are none.
  bool read_numbers(std::string_view name, double* to, int64_t count) const;

  // The same with a value for an absent attribute.
  bool flag(std::string_view name, bool otherwise) const;
  int64_t integer(std::string_view name, int64_t otherwise) const;
  double number(std::string_view name, double otherwise) const;
  std::string text(std::string_view name, std::string_view otherwise) const;

  const std::vector<std::pair<std::string, Attr>>& items() const { return items_; }
  bool operator==(const Attrs& other) const { return items_ == other.items_; }

 private:
  const Attr* find(std::string_view name) const;
  const Attr& get(std::string_view name) const;
  std::vector<std::pair<std::string, Attr>> items_;
};

}  // namespace mpsnn
