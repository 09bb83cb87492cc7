// The memory planner against a brute-force overlap check, on thousands of random sets of blocks.
#include <doctest/doctest.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <random>

#include "mpsnn/error.h"
#include "runtime/arena.h"

using namespace mpsnn;
using runtime::assign_offsets;
using runtime::Block;

namespace {

bool overlap_in_time(const Block& a, const Block& b) {
  return a.first <= b.last && b.first <= a.last;
}

// Empty when right, else what is wrong.
std::string check(const std::vector<Block>& blocks, std::size_t total, std::size_t alignment) {
  std::size_t end = 0;
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    const Block& a = blocks[i];
    if (a.offset % alignment != 0) return "misaligned";
    if (a.offset + a.bytes > total) return "out of the arena";
    if (a.bytes != 0) end = std::max(end, a.offset + a.bytes);
    for (std::size_t j = 0; j < i; ++j) {
      const Block& b = blocks[j];
      if (overlap_in_time(a, b) && a.offset < b.offset + b.bytes && b.offset < a.offset + a.bytes) {
        return "overlap";
      }
    }
  }
  if (total >= end + alignment) return "larger than it need be";
  return "";
}

std::vector<Block> random_blocks(std::mt19937& random, int most) {
  const auto below = [&](int n) { return static_cast<int>(random() % static_cast<unsigned>(n)); };
  std::vector<Block> blocks(static_cast<std::size_t>(below(most) + 1));
  const int steps = below(60) + 1, longest = below(steps) + 1, kinds = below(4);
  for (Block& block : blocks) {
    block.bytes = static_cast<std::size_t>(kinds == 0   ? 64 * below(8)
                                           : kinds == 1 ? below(100000)
                                                        : below(3) * 4096 + below(70));
    block.first = below(steps);
    block.last = std::min(steps - 1, block.first + below(longest));
  }
  return blocks;
}

// What is live at the fullest moment: no plan needs less.
std::size_t fullest(const std::vector<Block>& blocks) {
  std::size_t most = 0;
  for (const Block& at : blocks) {
    std::size_t live = 0;
    for (const Block& b : blocks) {
      if (b.first <= at.first && at.first <= b.last) live += b.bytes;
    }
    most = std::max(most, live);
  }
  return most;
}

}  // namespace

TEST_CASE("blocks that live at the same time never share a byte") {
  std::mt19937 random(1);
  for (int round = 0; round < 4000; ++round) {
    std::vector<Block> blocks = random_blocks(random, 40);
    const std::size_t alignment = std::size_t{1} << (random() % 9);
    const std::size_t total = assign_offsets(blocks, alignment);
    CAPTURE(round);
    const std::string wrong = check(blocks, total, alignment);
    CHECK(wrong == "");
    CHECK(total >= fullest(blocks));
  }
}

TEST_CASE("the checker finds an overlap, so that the test above can fail") {
  std::vector<Block> blocks{{100, 0, 2, 0}, {100, 2, 3, 64}};
  CHECK(check(blocks, 192, 64) == "overlap");
  blocks[1].first = 3;
  CHECK(check(blocks, 192, 64) == "");
  CHECK(check(blocks, 128, 64) == "out of the arena");
  CHECK(check(blocks, 256, 64) == "larger than it need be");
  blocks[1].offset = 32;
  CHECK(check(blocks, 192, 64) == "misaligned");
}

TEST_CASE("memory is used again") {
  // A chain, as in inference: at any time two neighbours live.
  std::vector<Block> chain;
  for (int i = 0; i < 50; ++i) chain.push_back({1024, i, i + 1, 0});
  CHECK(assign_offsets(chain) == 2048);
  // A gap left by the large ones is filled, at its lowest place.
  std::vector<Block> blocks{{100, 0, 0, 0}, {300, 0, 1, 0}, {250, 1, 2, 0}, {64, 2, 2, 0}};
  CHECK(assign_offsets(blocks) == 320 + 256);
  CHECK(blocks[1].offset == 0);
  CHECK(blocks[2].offset == 320);
  CHECK(blocks[0].offset == 320);
  CHECK(blocks[3].offset == 0);
}

TEST_CASE("plans of nothing and of empty blocks need nothing") {
  std::vector<Block> blocks;
  CHECK(assign_offsets(blocks) == 0);
  blocks = {{0, 0, 9, 5}, {0, 0, 9, 5}};
  CHECK(assign_offsets(blocks) == 0);
  CHECK(blocks[1].offset == 0);
}

TEST_CASE("sizes that overflow are out of memory") {
  std::vector<Block> blocks{{~std::size_t{0}, 0, 0, 0}};
  CHECK_THROWS_AS(assign_offsets(blocks), OutOfMemoryError);
  blocks = {{~std::size_t{0} - 200, 0, 0, 0}, {300, 0, 0, 0}};
  CHECK_THROWS_AS(assign_offsets(blocks), OutOfMemoryError);
}

TEST_CASE("equal sets get equal offsets, and thousands of blocks are soon placed") {
  std::mt19937 random(2);
  std::vector<Block> blocks(6000);
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    // Like a training step: many short lives, and activations that wait for the way back.
    const int at = static_cast<int>(i), end = 12000 - at;
    blocks[i] = {random() % 1000000 + 1, at, random() % 2 == 0 ? at + 2 : end, 0};
  }
  std::vector<Block> again = blocks;
  const auto start = std::chrono::steady_clock::now();
  const std::size_t total = assign_offsets(blocks);
  const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
  CHECK(taken.count() < 5.0);  // 0.05 s, with room for sanitizers
  CHECK(assign_offsets(again) == total);
  bool equal = true;
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    equal = equal && blocks[i].offset == again[i].offset;
  }
  CHECK(equal);
  CHECK(check(blocks, total, 64) == "");
  CHECK(static_cast<double>(total) < 1.2 * static_cast<double>(fullest(blocks)));
}

TEST_CASE("mapped memory is zero, aligned and writable to its last byte") {
  for (const std::size_t bytes :
       {std::size_t{0}, std::size_t{1}, std::size_t{4097}, (std::size_t{2} << 20) - 1,
        std::size_t{2} << 20, (std::size_t{5} << 20) + 12345}) {
    CAPTURE(bytes);
    const std::shared_ptr<void> memory = runtime::map_memory(bytes);
    REQUIRE(static_cast<bool>(memory));
    CHECK(reinterpret_cast<std::uintptr_t>(memory.get()) % 4096 == 0);
    auto* data = static_cast<unsigned char*>(memory.get());
    CHECK(std::all_of(data, data + bytes, [](unsigned char b) { return b == 0; }));
    if (bytes != 0) std::memset(data, 0xA5, bytes);
  }
  CHECK_THROWS_AS(runtime::map_memory(~std::size_t{0}), OutOfMemoryError);
  CHECK_THROWS_AS(runtime::map_memory(std::size_t{1} << 62), OutOfMemoryError);
}

TEST_CASE("an arena is shared by all, and grows") {
  runtime::Arena arena;
  CHECK((arena.latest(0) == nullptr));
  std::shared_ptr<void> small = arena.reserve(100);
  CHECK((arena.latest(100) == small));
  CHECK((arena.latest(101) == nullptr));
  std::shared_ptr<void> big = arena.reserve(5000);
  CHECK((big != small));
  CHECK((arena.reserve(200) == big));
  CHECK((arena.latest(100) == big));  // what `small` held moves here
  big.reset();
  CHECK((arena.latest(100) == nullptr));  // nobody has kept it
  CHECK((arena.reserve(50) != small));
  CHECK((arena.latest(100) == nullptr));
}
