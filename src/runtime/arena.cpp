// The placed blocks are kept in order of offset, so that the lowest gap is one pass over those that
// live at the same time; some thousand blocks take milliseconds.
#include "runtime/arena.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <numeric>
#include <string>

#include "mpsnn/error.h"

namespace mpsnn::runtime {
namespace {

constexpr std::size_t kHugePage = std::size_t{2} << 20;

std::size_t sum(std::size_t a, std::size_t b) {
  if (__builtin_add_overflow(a, b, &a)) {
    throw OutOfMemoryError("the memory of a plan has more than 2^64 bytes");
  }
  return a;
}

std::size_t round_up(std::size_t bytes, std::size_t multiple) {
  const std::size_t rest = bytes % multiple;
  return rest == 0 ? bytes : sum(bytes, multiple - rest);
}

struct Placed {
  std::size_t begin, end;
  int first, last;
};

}  // namespace

std::size_t assign_offsets(std::vector<Block>& blocks, std::size_t alignment) {
  std::vector<std::size_t> order(blocks.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return blocks[a].bytes > blocks[b].bytes; });

  std::vector<Placed> placed;  // in order of `begin`
  placed.reserve(blocks.size());
  std::size_t total = 0;
  for (const std::size_t i : order) {
    Block& block = blocks[i];
    block.offset = 0;
    if (block.bytes == 0) continue;
    const std::size_t bytes = round_up(block.bytes, alignment);
    for (const Placed& other : placed) {
      if (other.first > block.last || other.last < block.first) continue;
      if (other.begin >= block.offset && other.begin - block.offset >= bytes) break;
      block.offset = std::max(block.offset, other.end);
    }
    const Placed place{block.offset, sum(block.offset, bytes), block.first, block.last};
    placed.insert(std::upper_bound(placed.begin(), placed.end(), place.begin,
                                   [](std::size_t b, const Placed& p) { return b < p.begin; }),
                  place);
    total = std::max(total, place.end);
  }
  return total;
}

std::shared_ptr<void> map_memory(std::size_t bytes) {
  const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  const std::size_t size = round_up(std::max<std::size_t>(bytes, 1), page);
  // Huge pages need an aligned range: map a little more and give back what lies around it.
  const bool huge = size >= kHugePage;
  const std::size_t mapped = huge ? sum(size, kHugePage) : size;
  void* const memory =
      mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) {
    throw OutOfMemoryError("no memory for a plan of " + std::to_string(bytes) +
                           " bytes: " + std::strerror(errno));
  }
  char* begin = static_cast<char*>(memory);
  if (huge) {
    const std::size_t head =
        (kHugePage - reinterpret_cast<std::uintptr_t>(begin) % kHugePage) % kHugePage;
    if (head != 0) munmap(begin, head);
    begin += head;
    munmap(begin + size, kHugePage - head);
#ifdef MADV_HUGEPAGE
    madvise(begin, size, MADV_HUGEPAGE);  // a wish: refusing it is no error
#endif
  }
  return std::shared_ptr<void>(begin, [size](void* p) { munmap(p, size); });
}

std::shared_ptr<void> Arena::reserve(std::size_t bytes) {
  std::shared_ptr<void> memory = latest(bytes);
  if (memory) return memory;
  memory = map_memory(bytes);
  memory_ = memory;
  bytes_ = bytes;
  return memory;
}

}  // namespace mpsnn::runtime
