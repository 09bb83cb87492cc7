// RFC 8259, without floats, negative numbers and literals, which no safetensors header has.
#include "io/json.h"

#include "mpsnn/error.h"

namespace mpsnn::io {
namespace {

// Length of the well-formed UTF-8 sequence (RFC 3629) at the start of `text`; 0 if there is none.
std::size_t sequence_length(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<uint8_t>(text[i]); };
  const uint8_t lead = byte(0);
  if (lead < 0x80) return 1;
  const std::size_t length = lead < 0xC2   ? 0
                             : lead < 0xE0 ? 2
                             : lead < 0xF0 ? 3
                             : lead < 0xF5 ? 4
                                           : 0;
  if (length == 0 || text.size() < length) return 0;
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return 0;
  }
  const uint8_t second = byte(1);
  const bool wrong = (lead == 0xE0 && second < 0xA0) ||  // longer than need be
                     (lead == 0xED && second > 0x9F) ||  // a surrogate
                     (lead == 0xF0 && second < 0x90) ||
                     (lead == 0xF4 && second > 0x8F);  // beyond U+10FFFF
  return wrong ? 0 : length;
}

void append_code_point(std::string& out, uint32_t code) {
  const auto put = [&](uint32_t byte) { out += static_cast<char>(byte); };
  if (code < 0x80) {
    put(code);
  } else if (code < 0x800) {
    put(0xC0 | code >> 6);
    put(0x80 | (code & 0x3F));
  } else if (code < 0x10000) {
    put(0xE0 | code >> 12);
    put(0x80 | (code >> 6 & 0x3F));
    put(0x80 | (code & 0x3F));
  } else {
    put(0xF0 | code >> 18);
    put(0x80 | (code >> 12 & 0x3F));
    put(0x80 | (code >> 6 & 0x3F));
    put(0x80 | (code & 0x3F));
  }
}

bool is_digit(char c) { return c >= '0' && c <= '9'; }

std::string shown(char c) {
  const auto byte = static_cast<uint8_t>(c);
  if (byte >= 0x20 && byte < 0x7F) return std::string("'") + c + "'";
  constexpr char hex[] = "0123456789abcdef";
  return std::string("byte 0x") + hex[byte >> 4] + hex[byte & 15];
}

}  // namespace

void JsonReader::fail(const std::string& expected) const {
  throw FormatError(name_ + ": header byte " + std::to_string(at_) + ": expected " + expected +
                    ", got " + (at_ < text_.size() ? shown(text_[at_]) : "the header's end"));
}

void JsonReader::skip_space() {
  while (at_ < text_.size() &&
         (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\r' || text_[at_] == '\t')) {
    ++at_;
  }
}

bool JsonReader::take(char c) {
  if (at_ == text_.size() || text_[at_] != c) return false;
  ++at_;
  return true;
}

void JsonReader::open(char bracket) {
  skip_space();
  if (!take(bracket)) fail(shown(bracket));
  first_ = true;
}

bool JsonReader::more(char bracket) {
  const bool first = first_;
  first_ = false;
  skip_space();
  if (take(bracket)) return false;
  if (!first && !take(',')) fail("',' or " + shown(bracket));
  return true;
}

std::string JsonReader::key() {
  std::string name = string();
  skip_space();
  if (!take(':')) fail("':'");
  return name;
}

std::string JsonReader::string() {
  skip_space();
  if (!take('"')) fail("a string");
  std::string out;
  for (;;) {
    if (at_ == text_.size()) fail("'\"'");
    if (take('"')) return out;
    if (take('\\')) {
      append_escape(out);
    } else {
      append_utf8(out);
    }
  }
}

void JsonReader::append_utf8(std::string& out) {
  if (static_cast<uint8_t>(text_[at_]) < 0x20) fail("no control character in a string");
  const std::size_t length = sequence_length(text_.substr(at_, 4));
  if (length == 0) fail("UTF-8");
  out += text_.substr(at_, length);
  at_ += length;
}

uint32_t JsonReader::hex4() {
  uint32_t code = 0;
  for (int i = 0; i < 4; ++i, ++at_) {
    const char c = at_ < text_.size() ? text_[at_] : '\0';
    const int digit = is_digit(c)              ? c - '0'
                      : (c >= 'a' && c <= 'f') ? c - 'a' + 10
                      : (c >= 'A' && c <= 'F') ? c - 'A' + 10
                                               : -1;
    if (digit < 0) fail("four hexadecimal digits");
    code = code << 4 | static_cast<uint32_t>(digit);
  }
  return code;
}

void JsonReader::append_escape(std::string& out) {
  constexpr std::string_view escapes = "\"\\/bfnrt", meanings = "\"\\/\b\f\n\r\t";
  if (take('u')) {
    uint32_t code = hex4();
    if (code >= 0xD800 && code < 0xE000) {
      if (code >= 0xDC00 || !take('\\') || !take('u')) fail("a pair of surrogates");
      const uint32_t low = hex4();
      if (low < 0xDC00 || low >= 0xE000) fail("a pair of surrogates");
      code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
    }
    append_code_point(out, code);
    return;
  }
  const std::size_t found = at_ < text_.size() ? escapes.find(text_[at_]) : std::string_view::npos;
  if (found == std::string_view::npos) fail("an escape sequence");
  out += meanings[found];
  ++at_;
}

int64_t JsonReader::integer() {
  skip_space();
  const auto digit = [&] { return at_ < text_.size() && is_digit(text_[at_]); };
  if (!digit()) fail("a non-negative integer");
  if (take('0')) {
    if (digit()) fail("no leading zero");
    return 0;
  }
  int64_t value = 0;
  for (; digit(); ++at_) {
    if (__builtin_mul_overflow(value, int64_t{10}, &value) ||
        __builtin_add_overflow(value, int64_t{text_[at_] - '0'}, &value)) {
      fail("an integer below 2^63");
    }
  }
  return value;
}

void JsonReader::end() {
  skip_space();
  if (at_ != text_.size()) fail("the header's end");
}

bool is_utf8(std::string_view text) {
  while (!text.empty()) {
    const std::size_t length = sequence_length(text);
    if (length == 0) return false;
    text.remove_prefix(length);
  }
  return true;
}

std::string quoted(std::string_view text) {
  constexpr char hex[] = "0123456789abcdef";
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (static_cast<uint8_t>(c) < 0x20) {
      out += "\\u00";
      out += hex[c >> 4];
      out += hex[c & 15];
    } else {
      out += c;
    }
  }
  return out + "\"";
}

std::string excerpt(std::string_view text) {
  std::size_t length = 200;
  if (text.size() <= length) return quoted(text);
  while ((static_cast<uint8_t>(text[length]) & 0xC0) == 0x80) --length;  // between two characters
  return quoted(text.substr(0, length)) + "...";
}

}  // namespace mpsnn::io
