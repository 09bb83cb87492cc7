// The record of broken contracts, the counters and the faults, shared by all of the stand-in.
#pragma once
#include <atomic>
#include <string>

namespace apple_sim {
void violate(const char* format, ...) __attribute__((format(printf, 1, 2)));
void count_encode(const char* class_name);

struct Counters {
  std::atomic<long> buffers{0}, bytes{0}, heaps{0}, blits{0}, synchronizations{0}, waits{0},
      commits{0};
};
Counters& counters();

// Faults and holds that a test has asked for.
void wait_while_held();
bool allocation_fails();
float convolution_error();
bool command_buffer_fails(long* code, std::string* label);
}  // namespace apple_sim
