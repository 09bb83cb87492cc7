// Safetensors: what is written comes back, saving is atomic, and whatever a file holds is either a
// consistent set of tensors or a FormatError. MPSNN_FUZZ_INPUTS sets how many mutations are tried.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <set>

#include "message.h"
#include "mpsnn/error.h"
#include "mpsnn/safetensors.h"

using namespace mpsnn;
namespace fs = std::filesystem;

namespace {

// A fresh folder, removed with everything in it.
class Folder {
 public:
  Folder() {
    std::string pattern = (fs::temp_directory_path() / "mpsnn-unit-XXXXXX").string();
    REQUIRE(mkdtemp(pattern.data()) != nullptr);
    path_ = pattern;
  }
  ~Folder() { fs::remove_all(path_); }
  std::string operator/(const std::string& name) const { return (path_ / name).string(); }
  std::set<std::string> names() const {
    std::set<std::string> names;
    for (const auto& entry : fs::directory_iterator(path_)) {
      names.insert(entry.path().filename().string());
    }
    return names;
  }

 private:
  fs::path path_;
};

std::string contents(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

void put(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

std::string length_prefix(uint64_t length) {
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &length, 8);
  return bytes;
}

// A file of a header as it stands and `data` bytes 0, 1, 2...
std::string with_header(const std::string& header, std::size_t data = 0) {
  std::string bytes = length_prefix(header.size()) + header;
  for (std::size_t i = 0; i < data; ++i) bytes += static_cast<char>(i);
  return bytes;
}

std::string entry(const std::string& name, const std::string& dtype, const std::string& shape,
                  const std::string& offsets) {
  return "\"" + name + "\":{\"dtype\":\"" + dtype + "\",\"shape\":" + shape +
         ",\"data_offsets\":" + offsets + "}";
}

TensorFile parse(const std::string& bytes) {
  return parse_safetensors(bytes.data(), bytes.size(), "weights.safetensors");
}

std::string refusal(const std::string& bytes) {
  return message_of<FormatError>([&] { parse(bytes); });
}

// A tensor whose bytes are `seed`, `seed` + 1...
Tensor tensor_of(const Shape& shape, DType dtype, int seed) {
  Tensor t(shape, dtype);
  for (std::size_t i = 0; i < t.bytes(); ++i) {
    t.as<uint8_t>()[i] = static_cast<uint8_t>(static_cast<std::size_t>(seed) + i);
  }
  return t;
}

TensorFile example() {
  TensorFile file;
  file.tensors.emplace_back("conv1.weight", tensor_of({2, 3, 3, 1}, DType::float32, 1));
  file.tensors.emplace_back("bytes", tensor_of({3}, DType::uint8, 2));
  file.tensors.emplace_back("half", tensor_of({5}, DType::float16, 3));
  file.tensors.emplace_back("brain", tensor_of({1, 1}, DType::bfloat16, 4));
  file.tensors.emplace_back("double", tensor_of({2}, DType::float64, 5));
  file.tensors.emplace_back("scalar", tensor_of({}, DType::int64, 6));
  file.tensors.emplace_back("empty", tensor_of({0, 7}, DType::int32, 7));
  file.tensors.emplace_back("int", tensor_of({2}, DType::int32, 8));
  file.tensors.emplace_back("odd \"name\"\n\\ \xC3\xA9\xF0\x9F\x98\x80",
                            tensor_of({1}, DType::uint8, 9));
  file.metadata = {{"mpsnn_format", "1"}, {"", "\t\x01 \xE2\x82\xAC"}};
  return file;
}

bool equal(const TensorFile& a, const TensorFile& b) {
  return a.metadata == b.metadata &&
         std::equal(a.tensors.begin(), a.tensors.end(), b.tensors.begin(), b.tensors.end(),
                    [](const auto& x, const auto& y) {
                      return x.first == y.first && x.second.dtype() == y.second.dtype() &&
                             x.second.shape() == y.second.shape() &&
                             std::memcmp(x.second.data(), y.second.data(), x.second.bytes()) == 0;
                    });
}

std::string example_bytes() {
  const Folder folder;
  write_safetensors(folder / "a", example());
  return contents(folder / "a");
}

}  // namespace

TEST_CASE("what is written comes back, in order and aligned") {
  const Folder folder;
  const std::string path = folder / "model.safetensors";
  write_safetensors(path, example());
  const TensorFile back = read_safetensors(path);
  CHECK(equal(back, example()));
  for (const auto& [name, tensor] : back.tensors) {
    CHECK(reinterpret_cast<std::uintptr_t>(tensor.data()) % 64 == 0);
  }
  const std::string bytes = contents(path);
  uint64_t length = 0;
  std::memcpy(&length, bytes.data(), 8);
  CHECK(length % 8 == 0);
  CHECK(equal(parse(bytes), example()));

  const std::string& last = back.tensors.back().first;
  const TensorFile part = read_safetensors(path, {"absent", last});
  REQUIRE(part.tensors.size() == 1);
  CHECK(part.tensors[0].first == last);
  CHECK(part.tensors[0].second.bytes() == back.tensors.back().second.bytes());
  CHECK(std::memcmp(part.tensors[0].second.data(), back.tensors.back().second.data(),
                    part.tensors[0].second.bytes()) == 0);
  CHECK(part.metadata == back.metadata);

  write_safetensors(path, {});
  CHECK(read_safetensors(path).tensors.empty());
  CHECK(contents(path) == with_header("{}      "));
}

TEST_CASE("headers of other writers are read") {
  // Other order, white space, escapes, metadata last, offsets not in the header's order.
  const TensorFile file = parse(with_header(
      "{ \"b\\u00e9\\ud83d\\ude00\\/\" :\t{\"shape\" : [ 2 , 1 ],\n\"data_offsets\":[4,8],"
      "\"dtype\":\"F16\"} ,\r" +
          entry("a", "I32", "[]", "[0,4]") + ",\"__metadata__\":{\"k\":\"\\u0000\\b\"}}  \n",
      8));
  REQUIRE(file.tensors.size() == 2);
  CHECK(file.tensors[0].first == "a");
  CHECK(*file.tensors[0].second.as<int32_t>() == 0x03020100);
  CHECK(file.tensors[1].first == "b\xC3\xA9\xF0\x9F\x98\x80/");
  CHECK(file.tensors[1].second.shape() == Shape{2, 1});
  CHECK(file.tensors[1].second.as<uint16_t>()[1] == 0x0706);
  CHECK(file.metadata.at("k") == std::string("\0\b", 2));
  CHECK(parse(with_header("{\"__metadata__\":{}}")).metadata.empty());
  CHECK(parse(with_header("{" + entry("e", "F32", "[0]", "[0,0]") + "," +
                          entry("f", "U8", "[0,9223372036854775807]", "[0,0]") + "}"))
            .tensors.size() == 2);
}

TEST_CASE("every kind of broken file is a FormatError that names the file") {
  struct Case {
    std::string bytes, part;
  };
  const auto one = [](const std::string& shape, const std::string& offsets,
                      const std::string& dtype = "F32") {
    return with_header("{" + entry("w", dtype, shape, offsets) + "}", 16);
  };
  const auto bad_string = [](const std::string& text) {
    return with_header("{\"__metadata__\":{\"k\":\"" + text + "\"}}");
  };
  const std::vector<Case> cases = {
      // The length and the file's size.
      {"", "got 0 bytes"},
      {"1234567", "got 7 bytes"},
      {length_prefix(0), "2 to 0 bytes, got a length of 0"},
      {length_prefix(2) + "{", "2 to 1 bytes, got a length of 2"},
      {length_prefix(~uint64_t{0}) + "{}", "got a length of 18446744073709551615"},
      {length_prefix(uint64_t{1} << 63) + "{}", "got a length of 9223372036854775808"},
      {length_prefix(99'999'999) + "{}", "got a length of 99999999"},
      {length_prefix(1) + "{}", "got a length of 1"},
      {"PK\3\4 some zip file of another framework", "got a length of"},
      // JSON.
      {with_header(" {}"), "begins with '{'"},
      {with_header("[]"), "begins with '{'"},
      {with_header("{}}"), "byte 2: expected the header's end, got '}'"},
      {with_header("{} {}"), "expected the header's end"},
      {with_header("{} x"), "expected the header's end, got 'x'"},
      {with_header("{,}"), "byte 1: expected a string"},
      {with_header("{ "), "got the header's end"},
      {with_header("{\"a\""), "expected ':', got the header's end"},
      {with_header("{\"a\":1}"), "expected '{', got '1'"},
      {with_header("{\"a\":null}"), "expected '{', got 'n'"},
      {with_header("{\"a\":" + std::string(100000, '[') + "}"), "expected '{', got '['"},
      {with_header("{\"a\":" + std::string(100000, '{') + "}"), "expected a string, got '{'"},
      {with_header("{a:{}}"), "expected a string"},
      {with_header("{'a':{}}"), "expected a string"},
      {with_header("{" + entry("a", "F32", "[0]", "[0,0]") + ",}"), "expected a string, got '}'"},
      {with_header("{" + entry("a", "F32", "[0]", "[0,0]") + " " +
                   entry("b", "F32", "[0]", "[0,0]") + "}"),
       "expected ',' or '}', got '\"'"},
      {with_header("{\"__metadata__\":[]}"), "expected '{'"},
      {with_header("{\"__metadata__\":{\"k\":1}}"), "expected a string, got '1'"},
      {with_header("{\"__metadata__\":{\"k\":{}}}"), "expected a string"},
      {with_header("{\"__metadata__\":{\"k\":\"1\",\"k\":\"2\"}}"), "metadata \"k\""},
      {with_header("{\"__metadata__\":{},\"__metadata__\":{}}"), "each name once"},
      // Strings.
      {bad_string("\n"), "control character in a string, got byte 0x0a"},
      {bad_string("\\x41"), "an escape sequence, got 'x'"},
      {bad_string("\\u12g4"), "four hexadecimal digits, got 'g'"},
      {bad_string("\\u12"), "four hexadecimal digits"},
      {bad_string("\\ud800"), "a pair of surrogates"},
      {bad_string("\\ud800x"), "a pair of surrogates"},
      {bad_string("\\ud800\\n"), "a pair of surrogates"},
      {bad_string("\\ud800\\u0041"), "a pair of surrogates"},
      {bad_string("\\ude00\\ud83d"), "a pair of surrogates"},
      {bad_string("\\ude00\\ude00"), "a pair of surrogates"},
      {bad_string("\x80"), "expected UTF-8, got byte 0x80"},
      {bad_string("\xC0\x80"), "expected UTF-8"},          // an overlong zero
      {bad_string("\xE0\x80\x80"), "expected UTF-8"},      // overlong
      {bad_string("\xF0\x80\x80\x80"), "expected UTF-8"},  // overlong
      {bad_string("\xED\xA0\x80"), "expected UTF-8"},      // a surrogate
      {bad_string("\xF4\x90\x80\x80"), "expected UTF-8"},  // beyond U+10FFFF
      {bad_string("\xF5\x80\x80\x80"), "expected UTF-8"},
      {bad_string("\xE2\x82"), "expected UTF-8"},
      {with_header("{\"\xE2\x82"), "expected UTF-8"},
      {with_header("{\"a"), "got the header's end"},
      {with_header("{\"a\\"), "an escape sequence, got the header's end"},
      // Entries.
      {with_header("{\"w\":{}}"),
       "tensor \"w\": expected dtype, shape and data_offsets, got no dtype"},
      {with_header("{\"w\":{\"dtype\":\"F32\",\"data_offsets\":[0,0]}}"), "got no shape"},
      {with_header("{\"w\":{\"dtype\":\"F32\",\"shape\":[0]}}"), "got no data_offsets"},
      {with_header("{\"w\":{\"dtype\":\"F32\",\"dtype\":\"F32\"}}"), "one each of dtype"},
      {with_header("{\"w\":{\"shape\":[],\"shape\":[]}}"), "one each of dtype"},
      {with_header("{\"w\":{\"data_offsets\":[0,0],\"data_offsets\":[0,0]}}"), "one each"},
      {with_header("{\"w\":{\"color\":\"red\"}}"), "got \"color\""},
      {with_header("{" + entry("w", "F32", "[0]", "[0,0]") + "," +
                   entry("w", "F32", "[0]", "[0,0]") + "}"),
       "tensor \"w\": expected each name once, got two"},
      {one("[4]", "[0,16]", "I8"), "tensor \"w\": expected dtype F32, F16"},
      {one("[4]", "[0,16]", "F8_E4M3"), "got \"F8_E4M3\""},
      {one("[4]", "[0,16]", "f32"), "got \"f32\""},
      {one("[4]", "[0,16]", ""), "got \"\""},
      {with_header("{\"w\":{\"dtype\":7}}"), "expected a string, got '7'"},
      // Shapes and offsets.
      {one("4", "[0,16]"), "expected '['"},
      {one("[-4]", "[0,16]"), "a non-negative integer, got '-'"},
      {one("[4.0]", "[0,16]"), "expected ',' or ']', got '.'"},
      {one("[4e0]", "[0,16]"), "got 'e'"},
      {one("[04]", "[0,16]"), "no leading zero"},
      {one("[\"4\"]", "[0,16]"), "a non-negative integer"},
      {one("[4,]", "[0,16]"), "a non-negative integer, got ']'"},
      {one("[[4]]", "[0,16]"), "a non-negative integer, got '['"},
      {one("[true]", "[0,16]"), "a non-negative integer, got 't'"},
      {one("[9223372036854775808]", "[0,16]"), "an integer below 2^63"},
      {one("[99999999999999999999999]", "[0,16]"), "an integer below 2^63"},
      {one("[9223372036854775807]", "[0,16]"), "2^64 or more bytes"},
      {one("[4294967296,4294967296]", "[0,16]"), "2^64 or more bytes"},
      {one("[4294967296,1073741824]", "[0,0]"), "2^64 or more bytes"},
      {one(
           "[1" +
               [] {
                 std::string more;
                 for (int i = 0; i < 64; ++i) more += ",1";
                 return more;
               }() +
               "]",
           "[0,4]"),
       "at most 64 axes"},
      {one("[3]", "[0,16]"), "expected 12 bytes for shape (3,) of F32, got 16"},
      {one("[5]", "[0,16]"), "expected 20 bytes"},
      {one("[]", "[0,16]"), "expected 4 bytes"},
      {one("[5]", "[0,20]"), "up to 16, got [0, 20]"},
      {one("[4]", "[16,0]"), "in order and up to 16, got [16, 0]"},
      {one("[4]", "[9223372036854775807,9223372036854775807]"), "up to 16"},
      {one("[4]", "[0]"), "two data offsets, got fewer"},
      {one("[4]", "[]"), "two data offsets, got fewer"},
      {one("[4]", "[0,16,32]"), "two data offsets, got more"},
      {one("[4]", "[0,-16]"), "a non-negative integer"},
      {one("[3]", "[0,12]"), "expected 12 bytes of data, got 16"},
      {one("[3]", "[4,16]"), "no hole, so data from byte 0, got [4, 16]"},
      {with_header("{}", 1), "expected 0 bytes of data, got 1"},
      {with_header(
           "{" + entry("a", "U8", "[8]", "[0,8]") + "," + entry("b", "U8", "[9]", "[7,16]") + "}",
           16),
       "tensor \"b\": expected no overlap"},
      {with_header(
           "{" + entry("a", "U8", "[8]", "[0,8]") + "," + entry("b", "U8", "[8]", "[0,8]") + "}",
           8),
       "no overlap"},
      {with_header(
           "{" + entry("a", "U8", "[16]", "[0,16]") + "," + entry("b", "U8", "[4]", "[4,8]") + "}",
           16),
       "no overlap"},
      {with_header(
           "{" + entry("a", "U8", "[7]", "[0,7]") + "," + entry("b", "U8", "[8]", "[8,16]") + "}",
           16),
       "no hole"},
  };
  const Folder folder;
  for (const Case& broken : cases) {
    const std::string message = refusal(broken.bytes);
    CAPTURE(broken.part);
    CAPTURE(message);
    CHECK(contains(message, broken.part));
    CHECK(message.compare(0, 20, "weights.safetensors:") == 0);
    put(folder / "f", broken.bytes);
    CHECK(contains(message_of<FormatError>([&] { read_safetensors(folder / "f"); }), folder / "f"));
  }
}

TEST_CASE("messages stay short and UTF-8 whatever a name's length") {
  std::string name;
  for (int i = 0; i < 1000; ++i) name += "\xE2\x82\xAC";
  const std::string message = refusal(with_header("{\"x" + name + "\":{\"dtype\":\"F33\"}}"));
  CHECK(message.size() < 400);
  CHECK(contains(message, "\xE2\x82\xAC\"...: expected dtype"));
}

TEST_CASE("a file cut anywhere is refused") {
  const std::string whole = example_bytes();
  for (std::size_t size = 0; size < whole.size(); ++size) {
    CAPTURE(size);
    CHECK_THROWS_AS(parse(whole.substr(0, size)), FormatError);
  }
  CHECK_THROWS_AS(parse(whole + '\0'), FormatError);
}

TEST_CASE("mutated files are consistent or refused") {
  const char* wanted = std::getenv("MPSNN_FUZZ_INPUTS");
  const int inputs = wanted != nullptr ? std::atoi(wanted) : 20000;
  std::mt19937_64 random(3);
  const auto below = [&](std::size_t n) { return static_cast<std::size_t>(random() % n); };
  const std::vector<std::string> seeds = {
      example_bytes(), with_header("{" + entry("a", "U8", "[4,2]", "[0,8]") + "," +
                                       entry("b", "F16", "[2]", "[8,12]") + "}",
                                   12)};
  const std::vector<std::string> pieces = {"{",
                                           "}",
                                           "[",
                                           "]",
                                           ",",
                                           ":",
                                           "\"",
                                           "\\",
                                           "\\u",
                                           "\\ud800",
                                           "-",
                                           "0",
                                           "9223372036854775807",
                                           "18446744073709551616",
                                           "null",
                                           "1e9",
                                           "\"dtype\"",
                                           "\"shape\"",
                                           "\"data_offsets\"",
                                           "\"__metadata__\":",
                                           "F32",
                                           "U8",
                                           "I64",
                                           "BOOL",
                                           "[0,0]",
                                           " ",
                                           "\xFF",
                                           "\xE2\x82\xAC"};
  int read = 0, refused = 0;
  for (int input = 0; input < inputs; ++input) {
    std::string bytes = seeds[below(seeds.size())];
    for (std::size_t changes = 1 + below(4); changes > 0 && !bytes.empty(); --changes) {
      const std::size_t at = below(bytes.size());
      switch (below(7)) {
        case 0:
          bytes[at] = static_cast<char>(bytes[at] ^ (1 << below(8)));
          break;
        case 1:
          bytes[at] = static_cast<char>(below(256));
          break;
        case 2:
          bytes.insert(at, pieces[below(pieces.size())]);
          break;
        case 3:
          bytes.erase(at, 1 + below(8));
          break;
        case 4:
          bytes.insert(at, bytes.substr(below(bytes.size()), below(40)));
          break;
        case 5:
          bytes.replace(at, 1, pieces[below(pieces.size())]);
          break;
        default:  // another digit, most often in a shape or an offset
          if (std::isdigit(static_cast<unsigned char>(bytes[at])) != 0) {
            bytes[at] = static_cast<char>('0' + below(10));
          }
      }
    }
    // Most mutations change the header's size: then mostly make the length right again.
    const std::size_t brace = bytes.rfind("}");
    if (below(4) != 0 && brace != std::string::npos && brace >= 8) {
      const uint64_t length = brace - 7 + (brace + 1 < bytes.size() && bytes[brace + 1] == ' ');
      std::memcpy(bytes.data(), &length, 8);
    }
    try {
      const TensorFile file = parse(bytes);
      ++read;
      uint64_t length = 0;
      std::memcpy(&length, bytes.data(), 8);
      std::size_t at = 8 + static_cast<std::size_t>(length);
      std::set<std::string> names;
      for (const auto& [name, tensor] : file.tensors) {
        REQUIRE(at + tensor.bytes() <= bytes.size());
        REQUIRE(std::memcmp(tensor.data(), bytes.data() + at, tensor.bytes()) == 0);
        REQUIRE(names.insert(name).second);
        at += tensor.bytes();
      }
      REQUIRE(at == bytes.size());
    } catch (const FormatError& error) {
      ++refused;
      REQUIRE(contains(error.what(), "weights.safetensors"));
    }
  }
  CHECK(read + refused == inputs);
  if (inputs >= 1000) {
    CHECK(read > inputs / 100);
    CHECK(refused > inputs / 2);
  }
}

TEST_CASE("what cannot be written is refused and leaves the old file") {
  const Folder folder;
  const std::string path = folder / "f";
  write_safetensors(path, example());
  const std::string before = contents(path);
  const auto refused = [&](std::string name, Tensor tensor, std::string metadata = "") {
    TensorFile file = example();
    file.tensors.emplace_back(std::move(name), std::move(tensor));
    file.metadata["k"] = std::move(metadata);
    const std::string message = message_of<ValueError>([&] { write_safetensors(path, file); });
    CHECK(contents(path) == before);
    CHECK(folder.names() == std::set<std::string>{"f"});
    return message;
  };
  const Tensor byte({1}, DType::uint8);
  CHECK(contains(refused("bytes", byte), "two tensors of a file named \"bytes\""));
  CHECK(contains(refused("__metadata__", byte), "__metadata__"));
  CHECK(contains(refused("\xFF", byte), "UTF-8"));
  CHECK(contains(refused("a", byte, "\xED\xA0\x80"), "UTF-8"));
  CHECK(contains(refused("none", Tensor()), "\"none\" of a file has no data"));
}

TEST_CASE("failed system calls are FileErrors with their code, and leave nothing behind") {
  const Folder folder;
  const auto code_of = [](auto&& call) {
    try {
      call();
    } catch (const FileError& error) {
      CHECK(contains(error.what(), error.path()));
      return error.code();
    }
    return 0;
  };
  CHECK(code_of([&] { read_safetensors(folder / "missing"); }) == ENOENT);
  CHECK(code_of([&] { read_safetensors(folder / "."); }) == EISDIR);
  CHECK(code_of([&] { read_safetensors("/dev/null"); }) == EINVAL);
  REQUIRE(mkfifo((folder / "pipe").c_str(), 0600) == 0);
  CHECK(code_of([&] { read_safetensors(folder / "pipe"); }) == EINVAL);
  CHECK_THROWS_AS(read_safetensors(std::string("a\0b", 3)), ValueError);

  CHECK(code_of([&] { write_safetensors(folder / "missing/f", example()); }) == ENOENT);
  CHECK(code_of([&] { write_safetensors(folder / ".", example()); }) == EISDIR);
  CHECK(code_of([&] { write_safetensors("/dev/null", example()); }) == EINVAL);
  CHECK(code_of([&] { write_safetensors("", example()); }) == ENOENT);
  CHECK(code_of([&] { write_safetensors(folder / "pipe/f", example()); }) == ENOTDIR);
  CHECK(code_of([&] { write_safetensors(folder / std::string(300, 'x'), example()); }) ==
        ENAMETOOLONG);
  CHECK(folder.names() == std::set<std::string>{"pipe"});

  CHECK_THROWS_AS(write_safetensors(std::string("a\0b", 3), {}), ValueError);
}

TEST_CASE("a write that fails half-way leaves the old file, and no other") {
  const Folder folder;
  write_safetensors(folder / "f", example());
  TensorFile large;
  large.tensors.emplace_back("large", tensor_of({1 << 20}, DType::uint8, 0));
  rlimit limit{};
  REQUIRE(getrlimit(RLIMIT_FSIZE, &limit) == 0);
  const rlimit small{10000, limit.rlim_max};
  const auto old_handler = std::signal(SIGXFSZ, SIG_IGN);
  REQUIRE(setrlimit(RLIMIT_FSIZE, &small) == 0);
  int code = 0;
  try {
    write_safetensors(folder / "f", large);
  } catch (const FileError& error) {
    code = error.code();
  }
  setrlimit(RLIMIT_FSIZE, &limit);
  std::signal(SIGXFSZ, old_handler);
  CHECK(code == EFBIG);
  CHECK(folder.names() == std::set<std::string>{"f"});
  CHECK(equal(read_safetensors(folder / "f"), example()));
}

TEST_CASE("saving replaces a file at once and keeps its permissions") {
  const Folder folder;
  const std::string path = folder / std::string(200, 'n');  // leaves no room for a suffix
  write_safetensors(path, {});
  REQUIRE(chmod(path.c_str(), 0640) == 0);
  const int old = open(path.c_str(), O_RDONLY);
  write_safetensors(path, example());
  CHECK(equal(read_safetensors(path), example()));
  struct stat info{};
  REQUIRE(stat(path.c_str(), &info) == 0);
  CHECK((info.st_mode & 07777) == 0640);
  char first[16];
  CHECK(read(old, first, sizeof first) == 16);
  CHECK(std::memcmp(first, with_header("{}      ").data(), 16) == 0);  // the old one is untouched
  close(old);
  CHECK(folder.names().size() == 1);
}
