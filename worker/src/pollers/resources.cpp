#include "resources.hpp"

#include <algorithm>
#include <fstream>
#include <functional>
#include <optional>
#include <sstream>
#include <string>

namespace tempora::pollers {

namespace {

constexpr std::chrono::milliseconds kBetweenSamples{100};
constexpr std::size_t kLargestFile = std::size_t{64} << 10;

double share(double used, double of) { return of > 0 ? std::clamp(used / of, 0.0, 1.0) : 0; }

// The number at the beginning of the text, if there is one.
std::optional<double> number_in(std::string_view text) {
  double number = 0;
  std::istringstream words{std::string{text}};
  if (!(words >> number) || number < 0) return std::nullopt;
  return number;
}

// The number in the line that begins with this word.
std::optional<double> number_of(std::string_view word, std::string_view text) {
  std::istringstream lines{std::string{text}};
  for (std::string line; std::getline(lines, line);) {
    if (line.size() > word.size() && line.starts_with(word) && line[word.size()] == ' ')
      return number_in(std::string_view{line}.substr(word.size()));
  }
  return std::nullopt;
}

}  // namespace

double used_memory(std::string_view meminfo) {
  const auto total = number_of("MemTotal:", meminfo);
  const auto available = number_of("MemAvailable:", meminfo);
  return total && available ? share(*total - *available, *total) : 0;
}

double used_memory(std::string_view cgroup_current, std::string_view cgroup_max,
                   std::string_view cgroup_stat) {
  const double most = number_in(cgroup_max).value_or(0);  // "max": no limit
  // Version 1 tells the sum of a container under the second name.
  const double cache = std::max(number_of("inactive_file", cgroup_stat).value_or(0),
                                number_of("total_inactive_file", cgroup_stat).value_or(0));
  return share(number_in(cgroup_current).value_or(0) - cache, most);
}

// user nice system idle iowait …
CpuTimes cpu_times(std::string_view proc_stat) {
  std::istringstream line{std::string{proc_stat.substr(0, proc_stat.find('\n'))}};
  std::string name;
  line >> name;
  CpuTimes times;
  double value = 0;
  for (int column = 0; column < 8 && line >> value; ++column) {
    times.total += value;
    if (column != 3 && column != 4) times.busy += value;
  }
  return times;
}

double processors(std::string_view proc_stat) {
  double count = 0;
  for (std::size_t at = proc_stat.find("\ncpu"); at != std::string_view::npos;
       at = proc_stat.find("\ncpu", at + 1)) {
    ++count;
  }
  return count;
}

double quota_cores(std::string_view cpu_max) {
  double quota = 0;
  double period = 0;
  std::istringstream words{std::string{cpu_max}};
  words >> quota >> period;  // "max 100000": no quota; version 1 says -1
  return quota > 0 && period > 0 ? quota / period : 0;
}

std::string Resources::text_of(std::string_view path) const {
  std::ifstream file{root_ + std::string{path}};
  std::string text(kLargestFile, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<std::size_t>(file.gcount()));
  return text;
}

bool Resources::have_room(Clock::time_point now) {
  const std::lock_guard lock{mutex_};
  if (now - sampled_ >= kBetweenSamples) sample(now);
  return memory_ < limits_.memory && cpu_ < limits_.cpu;
}

// The fuller one of machine and container: either can run out.
double Resources::memory_in_use() const {
  return std::max(
      {used_memory(text_of("/proc/meminfo")),
       used_memory(text_of("/sys/fs/cgroup/memory.current"), text_of("/sys/fs/cgroup/memory.max"),
                   text_of("/sys/fs/cgroup/memory.stat")),
       used_memory(text_of("/sys/fs/cgroup/memory/memory.usage_in_bytes"),
                   text_of("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
                   text_of("/sys/fs/cgroup/memory/memory.stat"))});
}

// In microseconds; nothing without a quota, or where its use is not told.
CpuTimes Resources::container_cpu(Clock::time_point now) const {
  double cores = quota_cores(text_of("/sys/fs/cgroup/cpu.max"));
  auto used = number_of("usage_usec", text_of("/sys/fs/cgroup/cpu.stat"));
  if (cores == 0) {
    cores = quota_cores(text_of("/sys/fs/cgroup/cpu/cpu.cfs_quota_us") + " " +
                        text_of("/sys/fs/cgroup/cpu/cpu.cfs_period_us"));
    used = number_in(text_of("/sys/fs/cgroup/cpuacct/cpuacct.usage"));
    if (used) *used /= 1'000;  // of nanoseconds
  }
  if (cores == 0 || !used) return {};
  // A quota may be more than there is.
  if (const double all = processors(text_of("/proc/stat")); all > 0) cores = std::min(cores, all);
  const std::chrono::duration<double, std::micro> time = now.time_since_epoch();
  return {.busy = *used, .total = time.count() * cores, .cores = cores};
}

void Resources::sample(Clock::time_point now) {
  sampled_ = now;
  memory_ = memory_in_use();
  CpuTimes times = container_cpu(now);
  if (times.cores == 0) times = cpu_times(text_of("/proc/stat"));
  // Of the time since the last look, which was a tenth of a second ago or more. Times under another
  // quota cannot be compared.
  if (cpu_times_.total > 0 && times.cores == cpu_times_.cores && times.total > cpu_times_.total)
    cpu_ = share(times.busy - cpu_times_.busy, times.total - cpu_times_.total);
  cpu_times_ = times;
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
