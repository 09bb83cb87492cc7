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

}  // namespace mpsnn::runtime
