// Offsets for linear memory: blocks whose lifetimes overlap never share a byte. Largest first, each
// at the lowest gap that fits (the greedy-by-size heuristic of Pisarchyk and Lee 2020, arXiv
// 2001.03288).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace mpsnn::runtime {

struct Block {
  std::size_t bytes = 0;
  int first = 0, last = 0;  // inclusive
  std::size_t offset = 0;   // set by assign_offsets
};

// Returns the bytes needed in all.
std::size_t assign_offsets(std::vector<Block>& blocks, std::size_t alignment = 64);

// Zero-filled memory, in huge pages where the system gives them. OutOfMemoryError.
std::shared_ptr<void> map_memory(std::size_t bytes);

// The temporaries of one step at a time: a device runs one, so all its executables share the
// largest memory that one of them has asked for. Used on the device's queue alone.
class Arena {
 public:
  std::shared_ptr<void> reserve(std::size_t bytes);
  // What was reserved last if it has so many bytes, else nothing.
  std::shared_ptr<void> latest(std::size_t bytes) const {
    return bytes <= bytes_ ? memory_.lock() : nullptr;
  }

 private:
  std::weak_ptr<void> memory_;  // whoever uses it keeps it
  std::size_t bytes_ = 0;
};

}  // namespace mpsnn::runtime
