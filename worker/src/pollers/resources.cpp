#include "resources.hpp"

#include <algorithm>
#include <fstream>
#include <iterator>
#include <limits>
#include <sstream>
#include <string>

namespace tempora::pollers {

namespace {

constexpr std::chrono::milliseconds kBetweenSamples{100};
constexpr std::size_t kLargestFile = 64 * 1024;

std::string text_of(const char* path) {
  std::ifstream file{path};
  std::string text(kLargestFile, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<std::size_t>(file.gcount()));
  return text;
}

double share(double used, double of) { return of > 0 ? std::clamp(used / of, 0.0, 1.0) : 0; }

}  // namespace

double used_memory(std::string_view meminfo) {
  std::istringstream lines{std::string{meminfo}};
  double total = 0;
  double available = 0;
  for (std::string name; lines >> name; lines.ignore(std::numeric_limits<int>::max(), '\n')) {
    if (name == "MemTotal:") lines >> total;
    if (name == "MemAvailable:") lines >> available;
  }
  return share(total - available, total);
}

double used_memory(std::string_view cgroup_current, std::string_view cgroup_max) {
  double current = 0;
  double most = 0;
  std::istringstream{std::string{cgroup_current}} >> current;
  std::istringstream{std::string{cgroup_max}} >> most;  // "max": no limit
  return share(current, most);
}

// user nice system idle iowait …
CpuTimes cpu_times(std::string_view proc_stat) {
  std::istringstream line{std::string{proc_stat.substr(0, proc_stat.find('\n'))}};
  std::string name;
  line >> name;
  CpuTimes times;
  std::uint64_t value = 0;
  for (int column = 0; column < 8 && line >> value; ++column) {
    times.total += value;
    if (column != 3 && column != 4) times.busy += value;
  }
  return times;
}

bool Resources::have_room() {
  const std::lock_guard lock{mutex_};
  if (std::chrono::steady_clock::now() - sampled_ >= kBetweenSamples) sample();
  return memory_ < limits_.memory && cpu_ < limits_.cpu;
}

void Resources::sample() {
  sampled_ = std::chrono::steady_clock::now();
  memory_ = std::max(
      used_memory(text_of("/proc/meminfo")),
      used_memory(text_of("/sys/fs/cgroup/memory.current"), text_of("/sys/fs/cgroup/memory.max")));
  const CpuTimes now = cpu_times(text_of("/proc/stat"));
  // Of the time since the last look, which was a tenth of a second ago or more.
  if (total_ > 0 && now.total > total_) {
    cpu_ = share(static_cast<double>(now.busy - busy_), static_cast<double>(now.total - total_));
  }
  busy_ = now.busy;
  total_ = now.total;
}

SlotGate gate_for(const std::shared_ptr<Resources>& resources,
                  const std::shared_ptr<TimerQueue>& timers) {
  if (resources == nullptr) return {};
  return {.open = [resources] { return resources->have_room(); },
          .least = resources->least(),
          .later =
              [timers](std::function<void()> look) {
                timers->after(kBetweenSamples, std::move(look));
              }};
}

}  // namespace tempora::pollers
