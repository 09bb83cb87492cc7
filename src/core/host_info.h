// What the machine is: for the names and sizes in `devices()`, and the default number of threads.
#pragma once

#include <cstdint>
#include <string>

namespace mpsnn::host {

std::string cpu_name();  // "AMD EPYC", "Apple M2"; the architecture where the system has no name
int64_t total_memory();  // bytes this process may hope for: the machine's, or its container's limit
int physical_cores();    // that this process may run on; at least 1

}  // namespace mpsnn::host
