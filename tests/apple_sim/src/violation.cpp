#include "violation.h"

#include <condition_variable>
#include <cstdarg>
#include <cstdio>
#include <deque>
#include <map>
#include <mutex>

#include "apple_sim.h"
#include "runtime/objc_rt.h"

namespace apple_sim {
namespace {
struct Record {
  std::mutex mutex;
  std::deque<std::string> violations;
  std::map<std::string, long> encodes;
  long fail_allocation = -1;
  long fail_skip = -1, fail_code = 0;
  std::string fail_label;
  bool held = false;
  float convolution_error = 0;
  std::condition_variable released;
};
Record& record() {
  static auto* r = new Record;
  return *r;
}
}  // namespace

Counters& counters() {
  static auto* c = new Counters;
  return *c;
}

void violate(const char* format, ...) {
  char text[1024];
  va_list ap;
  va_start(ap, format);
  std::vsnprintf(text, sizeof text, format, ap);
  va_end(ap);
  std::lock_guard<std::mutex> lock(record().mutex);
  record().violations.push_back(text);
}

void count_encode(const char* class_name) {
  std::lock_guard<std::mutex> lock(record().mutex);
  ++record().encodes[class_name];
}

bool allocation_fails() {
  std::lock_guard<std::mutex> lock(record().mutex);
  return record().fail_allocation >= 0 && record().fail_allocation-- == 0;
}

float convolution_error() {
  std::lock_guard<std::mutex> lock(record().mutex);
  return record().convolution_error;
}

void wait_while_held() {
  std::unique_lock<std::mutex> lock(record().mutex);
  record().released.wait(lock, [] { return !record().held; });
}

bool command_buffer_fails(long* code, std::string* label) {
  std::lock_guard<std::mutex> lock(record().mutex);
  if (record().fail_skip < 0 || record().fail_skip-- > 0) return false;
  *code = record().fail_code;
  *label = record().fail_label;
  return true;
}
}  // namespace apple_sim

using namespace apple_sim;

extern "C" {
long apple_sim_violations() {
  std::lock_guard<std::mutex> lock(record().mutex);
  return static_cast<long>(record().violations.size());
}
const char* apple_sim_violation(long index) {
  std::lock_guard<std::mutex> lock(record().mutex);
  const auto i = static_cast<size_t>(index);
  return i < record().violations.size() ? record().violations[i].c_str() : nullptr;
}
void apple_sim_clear_violations() {
  std::lock_guard<std::mutex> lock(record().mutex);
  record().violations.clear();
}
long apple_sim_live(const char* class_name) { return objc_rt_live(class_name); }
void apple_sim_each_live(void (*visit)(void*, const char*, long), void* context) {
  objc_rt_each_live(visit, context);
}
long apple_sim_live_buffers() { return counters().buffers; }
long apple_sim_live_bytes() { return counters().bytes; }
long apple_sim_live_heaps() { return counters().heaps; }
long apple_sim_missing_pools() { return objc_rt_missing_pools(); }
long apple_sim_encodes(const char* class_name) {
  std::lock_guard<std::mutex> lock(record().mutex);
  long n = 0;
  for (const auto& [name, count] : record().encodes)
    if (!class_name || name == class_name) n += count;
  return n;
}
void apple_sim_each_encode(void (*visit)(void*, const char*, long), void* context) {
  std::lock_guard<std::mutex> lock(record().mutex);
  for (const auto& [name, count] : record().encodes) visit(context, name.c_str(), count);
}
long apple_sim_blits() { return counters().blits; }
long apple_sim_synchronizations() { return counters().synchronizations; }
long apple_sim_host_waits() { return counters().waits; }
long apple_sim_commits() { return counters().commits; }
void apple_sim_reset_counters() {
  std::lock_guard<std::mutex> lock(record().mutex);
  record().encodes.clear();
  counters().blits = counters().synchronizations = counters().waits = counters().commits = 0;
}
void apple_sim_fail_command_buffer(long code, const char* label, long skip) {
  std::lock_guard<std::mutex> lock(record().mutex);
  record().fail_code = code;
  record().fail_label = label ? label : "";
  record().fail_skip = skip;
}
void apple_sim_hold(int held) {
  std::lock_guard<std::mutex> lock(record().mutex);
  record().held = held != 0;
  record().released.notify_all();
}
void apple_sim_fail_allocation(long skip) {
  std::lock_guard<std::mutex> lock(record().mutex);
  record().fail_allocation = skip;
}
void apple_sim_corrupt_convolutions(float error) {
  std::lock_guard<std::mutex> lock(record().mutex);
  record().convolution_error = error;
}
}
