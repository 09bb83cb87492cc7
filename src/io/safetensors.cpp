// The header is read and checked as a whole before a byte of data is; each tensor is then read into
// aligned memory of its own, as offsets in a file may have any alignment. What a header says of
// sizes is compared with the file's before anything is allocated.
#include "mpsnn/safetensors.h"

#include <algorithm>
#include <cstring>
#include <set>
#include <string_view>

#include "io/file.h"
#include "io/json.h"
#include "mpsnn/error.h"

namespace mpsnn {
namespace {

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
              "safetensors are little-endian and are read as they are");

constexpr std::size_t kLengthBytes = 8;
constexpr uint64_t kMaxHeader = 100'000'000;  // of the format's own reader
constexpr std::size_t kMaxRank = 64;
constexpr const char* kMetadata = "__metadata__";

struct FileType {
  const char* name;
  DType dtype;
};
constexpr FileType kTypes[] = {{"F32", DType::float32},   {"F16", DType::float16},
                               {"BF16", DType::bfloat16}, {"F64", DType::float64},
                               {"I32", DType::int32},     {"I64", DType::int64},
                               {"U8", DType::uint8}};

const char* file_type(DType dtype) {
  const auto* found = std::find_if(std::begin(kTypes), std::end(kTypes),
                                   [&](const FileType& t) { return t.dtype == dtype; });
  return found->name;
}

struct Entry {
  std::string name;
  DType dtype = DType::float32;
  Shape shape;
  uint64_t begin = 0, end = 0;
};

// Reads "name": {"dtype": ..., "shape": [...], "data_offsets": [begin, end]} and the metadata.
class HeaderReader {
 public:
  HeaderReader(std::string_view text, uint64_t data_size, const std::string& file)
      : json_(text, file), data_size_(data_size), file_(file) {}

  std::vector<Entry> read(std::map<std::string, std::string>& metadata) {
    std::vector<Entry> entries;
    std::set<std::string> names;
    json_.open('{');
    while (json_.more('}')) {
      std::string name = json_.key();
      if (!names.insert(name).second) fail(name, "each name once", "two");
      if (name == kMetadata) {
        read_metadata(metadata);
      } else {
        entries.push_back(read_entry(std::move(name)));
      }
    }
    json_.end();
    check_layout(entries);
    return entries;
  }

 private:
  [[noreturn]] void fail(const std::string& name, const std::string& expected,
                         const std::string& got) const {
    throw FormatError(file_ + ": tensor " + io::excerpt(name) + ": expected " + expected +
                      ", got " + got);
  }

  void read_metadata(std::map<std::string, std::string>& metadata) {
    json_.open('{');
    while (json_.more('}')) {
      std::string key = json_.key();
      std::string value = json_.string();
      if (!metadata.emplace(key, std::move(value)).second) {
        throw FormatError(file_ + ": metadata " + io::excerpt(key) +
                          ": expected each key once, got two");
      }
    }
  }

  Entry read_entry(std::string name) {
    Entry entry;
    entry.name = std::move(name);
    bool dtype = false, shape = false, offsets = false;
    json_.open('{');
    while (json_.more('}')) {
      const std::string key = json_.key();
      if (key == "dtype" && !dtype) {
        dtype = true;
        read_dtype(entry);
      } else if (key == "shape" && !shape) {
        shape = true;
        read_shape(entry);
      } else if (key == "data_offsets" && !offsets) {
        offsets = true;
        read_offsets(entry);
      } else {
        fail(entry.name, "one each of dtype, shape and data_offsets", io::excerpt(key));
      }
    }
    if (!dtype || !shape || !offsets) {
      fail(entry.name, "dtype, shape and data_offsets",
           std::string("no ") + (!dtype   ? "dtype"
                                 : !shape ? "shape"
                                          : "data_offsets"));
    }
    check_size(entry);
    return entry;
  }

  void read_dtype(Entry& entry) {
    const std::string text = json_.string();
    for (const FileType& type : kTypes) {
      if (text == type.name) {
        entry.dtype = type.dtype;
        return;
      }
    }
    fail(entry.name, "dtype F32, F16, BF16, F64, I32, I64 or U8", io::excerpt(text));
  }

  void read_shape(Entry& entry) {
    json_.open('[');
    while (json_.more(']')) {
      if (entry.shape.size() == kMaxRank) fail(entry.name, "at most 64 axes", "more");
      entry.shape.push_back(json_.integer());
    }
  }

  void read_offsets(Entry& entry) {
    json_.open('[');
    for (uint64_t* offset : {&entry.begin, &entry.end}) {
      if (!json_.more(']')) fail(entry.name, "two data offsets", "fewer");
      *offset = static_cast<uint64_t>(json_.integer());
    }
    if (json_.more(']')) fail(entry.name, "two data offsets", "more");
  }

  void check_size(const Entry& entry) const {
    if (entry.begin > entry.end || entry.end > data_size_) {
      fail(entry.name, "data offsets in order and up to " + std::to_string(data_size_),
           offsets_of(entry));
    }
    uint64_t bytes = size_of(entry.dtype);
    bool overflow = false;
    for (const int64_t size : entry.shape) {
      overflow = overflow || __builtin_mul_overflow(bytes, static_cast<uint64_t>(size), &bytes);
    }
    if (overflow || bytes != entry.end - entry.begin) {
      fail(entry.name,
           (overflow ? "2^64 or more" : std::to_string(bytes)) + " bytes for shape " +
               to_string(entry.shape) + " of " + file_type(entry.dtype),
           std::to_string(entry.end - entry.begin));
    }
  }

  // In order of their offsets tensors must follow each other from the first byte to the last.
  void check_layout(std::vector<Entry>& entries) const {
    std::stable_sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
      return a.begin != b.begin ? a.begin < b.begin : a.end < b.end;
    });
    uint64_t at = 0;
    for (const Entry& entry : entries) {
      if (entry.begin != at) {
        fail(entry.name,
             std::string(entry.begin < at ? "no overlap" : "no hole") + ", so data from byte " +
                 std::to_string(at),
             offsets_of(entry));
      }
      at = entry.end;
    }
    if (at != data_size_) {
      throw FormatError(file_ + ": expected " + std::to_string(at) + " bytes of data, got " +
                        std::to_string(data_size_));
    }
  }

  static std::string offsets_of(const Entry& entry) {
    return "[" + std::to_string(entry.begin) + ", " + std::to_string(entry.end) + "]";
  }

  io::JsonReader json_;
  uint64_t data_size_;
  const std::string& file_;
};

// `fetch(offset, size, to)` copies bytes of the file, which are known to be there; `wanted(name)`
// tells of which tensors.
template <class Fetch, class Wanted>
TensorFile parse(uint64_t size, const std::string& name, Fetch&& fetch, Wanted&& wanted) {
  if (size < kLengthBytes) {
    throw FormatError(name + ": expected a safetensors file, got " + std::to_string(size) +
                      " bytes");
  }
  uint64_t length;
  fetch(uint64_t{0}, kLengthBytes, &length);
  const uint64_t most = std::min(kMaxHeader, size - kLengthBytes);
  if (length < 2 || length > most) {
    throw FormatError(name + ": expected a safetensors header of 2 to " + std::to_string(most) +
                      " bytes, got a length of " + std::to_string(length));
  }
  std::string header(static_cast<std::size_t>(length), '\0');
  fetch(uint64_t{kLengthBytes}, header.size(), header.data());
  if (header[0] != '{') throw FormatError(name + ": expected a header that begins with '{'");

  const uint64_t data = kLengthBytes + length;
  TensorFile file;
  const std::vector<Entry> entries = HeaderReader(header, size - data, name).read(file.metadata);
  header = std::string();
  for (const Entry& entry : entries) {
    if (!wanted(entry.name)) continue;
    Tensor tensor(entry.shape, entry.dtype);
    if (tensor.bytes() != 0) fetch(data + entry.begin, tensor.bytes(), tensor.data());
    file.tensors.emplace_back(entry.name, std::move(tensor));
  }
  return file;
}

void check_text(const std::string& text, const char* what) {
  if (!io::is_utf8(text)) throw ValueError(std::string(what) + " of a file must be UTF-8");
}

std::string make_header(const TensorFile& file) {
  std::string header = "{";
  if (!file.metadata.empty()) {
    header += io::quoted(kMetadata) + ":{";
    for (const auto& [key, value] : file.metadata) {
      check_text(key, "the metadata");
      check_text(value, "the metadata");
      if (header.back() != '{') header += ',';
      header += io::quoted(key) + ":" + io::quoted(value);
    }
    header += '}';
  }
  std::set<std::string_view> names{kMetadata};
  uint64_t at = 0;
  for (const auto& [name, tensor] : file.tensors) {
    check_text(name, "the names");
    if (!names.insert(name).second)
      throw ValueError("two tensors of a file named " + io::excerpt(name));
    if (!tensor) throw ValueError("tensor " + io::excerpt(name) + " of a file has no data");
    if (header.size() > 1) header += ',';
    header += io::quoted(name) + ":{\"dtype\":\"" + file_type(tensor.dtype()) + "\",\"shape\":[";
    for (const int64_t size : tensor.shape()) {
      if (header.back() != '[') header += ',';
      header += std::to_string(size);
    }
    header += "],\"data_offsets\":[" + std::to_string(at) + ',';
    at += tensor.bytes();
    header += std::to_string(at) + "]}";
  }
  header += '}';
  header.resize((header.size() + 7) / 8 * 8, ' ');  // so that the data is aligned in the file
  if (header.size() > kMaxHeader) {
    throw ValueError("a safetensors header has at most 100 MB, this one " +
                     std::to_string(header.size()) + " bytes");
  }
  return header;
}

bool all(const std::string&) { return true; }

template <class Wanted>
TensorFile read(const std::string& path, Wanted&& wanted) {
  const io::InputFile file(path);
  const auto fetch = [&](uint64_t offset, std::size_t n, void* to) {
    if (!file.read(offset, n, to)) {
      throw FormatError(path + ": expected " + std::to_string(file.size()) +
                        " bytes, got fewer while reading");
    }
  };
  return parse(file.size(), path, fetch, wanted);
}

}  // namespace

TensorFile parse_safetensors(const void* bytes, std::size_t size, const std::string& name) {
  const auto fetch = [&](uint64_t offset, std::size_t n, void* to) {
    std::memcpy(to, static_cast<const char*>(bytes) + offset, n);
  };
  return parse(size, name, fetch, all);
}

TensorFile read_safetensors(const std::string& path) { return read(path, all); }

TensorFile read_safetensors(const std::string& path, const std::vector<std::string>& names) {
  return read(path, [&](const std::string& name) {
    return std::find(names.begin(), names.end(), name) != names.end();
  });
}

void write_safetensors(const std::string& path, const TensorFile& file) {
  const std::string header = make_header(file);
  const uint64_t length = header.size();
  io::AtomicFile out(path);
  out.write(&length, kLengthBytes);
  out.write(header.data(), header.size());
  for (const auto& [name, tensor] : file.tensors) out.write(tensor.data(), tensor.bytes());
  out.commit();
}

}  // namespace mpsnn
