// Linux tells it through /proc, /sys and sysconf, macOS through sysctl. Cores that the process is
// not allowed to run on (taskset, cpusets) do not count, nor does the second thread of a core.
#include "core/host_info.h"

#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <set>
#include <thread>
#include <utility>

#ifdef __APPLE__
#include <sys/sysctl.h>
#else
#include <sched.h>
#endif

namespace mpsnn::host {
namespace {

#if defined(__aarch64__)
constexpr const char* kArchitecture = "ARM64";
#elif defined(__x86_64__)
constexpr const char* kArchitecture = "x86-64";
#else
constexpr const char* kArchitecture = "CPU";
#endif

int logical_cores() { return std::max(1, static_cast<int>(std::thread::hardware_concurrency())); }

#ifdef __APPLE__
template <class T>
T sysctl_number(const char* name) {
  T value = 0;
  std::size_t size = sizeof value;
  return sysctlbyname(name, &value, &size, nullptr, 0) == 0 && size == sizeof value ? value : 0;
}
#else
int64_t read_number(const std::string& path) {  // -1 when there is none
  int64_t value = -1;
  std::ifstream file(path);
  return file >> value ? value : -1;
}
#endif

}  // namespace

std::string cpu_name() {
  std::string name;
#ifdef __APPLE__
  std::size_t size = 0;
  if (sysctlbyname("machdep.cpu.brand_string", nullptr, &size, nullptr, 0) == 0 && size > 1) {
    name.resize(size);
    if (sysctlbyname("machdep.cpu.brand_string", name.data(), &size, nullptr, 0) != 0) size = 1;
    name.resize(size - 1);
  }
#else
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; name.empty() && std::getline(file, line);) {
    const std::size_t colon = line.find(": ");
    if (colon != std::string::npos && line.compare(0, 10, "model name") == 0) {
      name = line.substr(colon + 2);
    }
  }
#endif
  while (!name.empty() && name.back() == ' ') name.pop_back();
  return name.empty() ? kArchitecture : name;
}

int64_t total_memory() {
#ifdef __APPLE__
  return static_cast<int64_t>(sysctl_number<uint64_t>("hw.memsize"));
#else
  const int64_t memory = int64_t{sysconf(_SC_PHYS_PAGES)} * sysconf(_SC_PAGESIZE);
  const int64_t limit = read_number("/sys/fs/cgroup/memory.max");
  return limit > 0 ? std::min(memory, limit) : memory;
#endif
}

int physical_cores() {
#ifdef __APPLE__
  const int cores = sysctl_number<int>("hw.physicalcpu");
  return cores > 0 ? cores : logical_cores();
#else
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) return logical_cores();
  std::set<std::pair<int64_t, int64_t>> cores;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &allowed)) continue;
    const std::string topology = "/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/";
    const int64_t core = read_number(topology + "core_id");
    if (core < 0) return CPU_COUNT(&allowed);
    cores.insert({read_number(topology + "physical_package_id"), core});
  }
  return std::max(1, static_cast<int>(cores.size()));
#endif
}

}  // namespace mpsnn::host
