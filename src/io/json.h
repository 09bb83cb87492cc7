// A strict reader of the JSON that stands in a safetensors header: objects, lists, strings and
// non-negative integers, pulled one after the other by who knows what must come next. There is no
// tree, so nothing in a file decides how deep or how much is allocated.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace mpsnn::io {

class JsonReader {
 public:
  // `name` is the file's, for messages. Every method raises FormatError with the byte it stopped
  // at.
  JsonReader(std::string_view text, const std::string& name) : text_(text), name_(name) {}

  void open(char bracket);  // '{' or '['
  // Whether another item comes before `bracket` closes; reads the comma or the bracket.
  bool more(char bracket);
  std::string key();  // of an object's item, with the colon
  std::string string();
  int64_t integer();
  void end();  // only white space may follow

  [[noreturn]] void fail(const std::string& expected) const;

 private:
  void skip_space();
  bool take(char c);
  uint32_t hex4();
  void append_escape(std::string& out);
  void append_utf8(std::string& out);

  std::string_view text_;
  const std::string& name_;
  std::size_t at_ = 0;
  bool first_ = false;  // nothing of the list or object opened last has been read
};

std::string quoted(std::string_view text);   // as a JSON string; the text must be UTF-8
std::string excerpt(std::string_view text);  // the same of its beginning, for messages
bool is_utf8(std::string_view text);

}  // namespace mpsnn::io
