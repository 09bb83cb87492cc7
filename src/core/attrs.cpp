// Few names a node: a sorted vector is smaller and faster than a tree.
#include "mpsnn/attrs.h"

#include <algorithm>

#include "mpsnn/error.h"

namespace mpsnn {
namespace {

constexpr const char* kKinds[] = {"a flag", "an integer", "a number",
                                  "text",   "integers",   "numbers"};
static_assert(std::variant_size_v<Attr> == sizeof kKinds / sizeof kKinds[0]);

template <class T>
const T& expect(const Attr& attr, std::string_view name) {
  if (const T* value = std::get_if<T>(&attr)) return *value;
  throw TypeError("attribute '" + std::string(name) + "' must be " +
                  kKinds[Attr(std::in_place_type<T>).index()] + ", got " + kKinds[attr.index()]);
}

double as_number(const Attr& attr, std::string_view name) {
  if (const auto* integer = std::get_if<int64_t>(&attr)) return static_cast<double>(*integer);
  return expect<double>(attr, name);
}

auto place(const std::vector<std::pair<std::string, Attr>>& items, std::string_view name) {
  return std::lower_bound(items.begin(), items.end(), name,
                          [](const auto& item, std::string_view n) { return item.first < n; });
}

}  // namespace

void Attrs::set(std::string_view name, Attr value) {
  const auto at = items_.begin() + (place(items_, name) - items_.cbegin());
  if (at != items_.end() && at->first == name) {
    at->second = std::move(value);
  } else {
    items_.emplace(at, name, std::move(value));
  }
}

const Attr* Attrs::find(std::string_view name) const {
  const auto at = place(items_, name);
  return at != items_.end() && at->first == name ? &at->second : nullptr;
}

const Attr& Attrs::get(std::string_view name) const {
  if (const Attr* attr = find(name)) return *attr;
  throw TypeError("attribute '" + std::string(name) + "' is missing");
}

bool Attrs::flag(std::string_view name) const { return expect<bool>(get(name), name); }
int64_t Attrs::integer(std::string_view name) const { return expect<int64_t>(get(name), name); }
double Attrs::number(std::string_view name) const { return as_number(get(name), name); }
const std::string& Attrs::text(std::string_view name) const {
  return expect<std::string>(get(name), name);
}
const std::vector<int64_t>& Attrs::integers(std::string_view name) const {
  return expect<std::vector<int64_t>>(get(name), name);
}
bool Attrs::read_numbers(std::string_view name, double* to, int64_t count) const {
  const Attr& attr = get(name);
  const auto copy = [&](const auto& list) {
    if (static_cast<int64_t>(list.size()) != count) return false;
    for (std::size_t i = 0; i < list.size(); ++i) to[i] = static_cast<double>(list[i]);
    return true;
  };
  if (const auto* doubles = std::get_if<std::vector<double>>(&attr)) return copy(*doubles);
  if (const auto* integers = std::get_if<std::vector<int64_t>>(&attr)) return copy(*integers);
  return false;
}

std::vector<double> Attrs::numbers(std::string_view name) const {
  const Attr& attr = get(name);
  if (const auto* integers = std::get_if<std::vector<int64_t>>(&attr)) {
    return std::vector<double>(integers->begin(), integers->end());
  }
  return expect<std::vector<double>>(attr, name);
}

bool Attrs::flag(std::string_view name, bool otherwise) const {
  const Attr* attr = find(name);
  return attr ? expect<bool>(*attr, name) : otherwise;
}
int64_t Attrs::integer(std::string_view name, int64_t otherwise) const {
  const Attr* attr = find(name);
  return attr ? expect<int64_t>(*attr, name) : otherwise;
}
double Attrs::number(std::string_view name, double otherwise) const {
  const Attr* attr = find(name);
  return attr ? as_number(*attr, name) : otherwise;
}
std::string Attrs::text(std::string_view name, std::string_view otherwise) const {
  const Attr* attr = find(name);
  return attr ? expect<std::string>(*attr, name) : std::string(otherwise);
}

}  // namespace mpsnn
