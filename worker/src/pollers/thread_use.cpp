#include "thread_use.hpp"

#ifdef __linux__
#include <fmt/format.h>
#include <unistd.h>

#include <ctime>
#include <fstream>
#include <string>
#endif

namespace tempora::pollers {

#ifdef __linux__

namespace {

// As pthread_getcpuclockid() makes it, of a thread that is known by its number only.
clockid_t cpu_clock_of(pid_t thread) {
  constexpr unsigned kOfOneThread = 6;
  return static_cast<clockid_t>((~static_cast<unsigned>(thread) << 3) | kOfOneThread);
}

}  // namespace

pid_t ThreadUse::this_thread() {
  thread_local const pid_t id = ::gettid();
  return id;
}

std::optional<ThreadUse> ThreadUse::of(pid_t thread) {
  timespec cpu{};
  if (::clock_gettime(cpu_clock_of(thread), &cpu) != 0) return std::nullopt;
  std::ifstream file{fmt::format("/proc/self/task/{}/stat", thread)};
  std::string stat;
  if (!std::getline(file, stat)) return std::nullopt;
  // The name stands in parentheses and may contain any; the state comes after the last one.
  const std::size_t name_end = stat.rfind(')');
  if (name_end == std::string::npos || name_end + 2 >= stat.size()) return std::nullopt;
  return ThreadUse{.waits = stat[name_end + 2] != 'R',
                   .cpu = std::chrono::seconds{cpu.tv_sec} + std::chrono::nanoseconds{cpu.tv_nsec}};
}

#else

pid_t ThreadUse::this_thread() { return 0; }
std::optional<ThreadUse> ThreadUse::of(pid_t) { return std::nullopt; }

#endif

}  // namespace tempora::pollers
