// The devices of this machine, in order of preference within each kind.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "mpsnn/dtype.h"

namespace mpsnn {

struct Device {
  std::string kind;  // "cpu", "reference", "mps", "cuda"
  int index = 0;
  std::string name;    // "AMD EPYC", "Apple M2"
  int64_t memory = 0;  // bytes a graph may use
  bool removable = false, low_power = false, headless = false, unified_memory = true;
  uint64_t registry_id = 0;
  std::vector<DType> dtypes;             // storage types it takes
  std::vector<std::string> dtype_notes;  // what each of them costs or gains here
  std::string notes;                     // libraries, instruction set, how halves are computed

  std::string id() const { return index == 0 ? kind : kind + ":" + std::to_string(index); }
};

std::vector<Device> devices();

// Runs a small training step and compares it with known values; empty when right, else what is
// wrong.
std::string self_test(const std::string& device);

// Waits for everything that is queued, callbacks included: what a process does before it exits.
void drain();

// Threads of the `cpu` and `reference` devices, for graphs compiled from now on. ValueError
// below 1.
void set_num_threads(int count);
int num_threads();

}  // namespace mpsnn
