// How full this machine is, or the container if it has limits of its own: cgroups of either
// version, as a container sees them below /sys/fs/cgroup.
#pragma once

#include <chrono>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <tempora/worker.hpp>
#include <utility>

#include "../transport/timer_queue.hpp"
#include "slots.hpp"

namespace tempora::pollers {

// Time of processors, in a unit of its own: only shares of it mean something.
struct CpuTimes {
  double busy = 0;
  double total = 0;  // that could have been used; 0: the files tell nothing
  double cores = 0;  // that the container may use; 0: these are the whole machine's
};

class Resources {
 public:
  using Clock = std::chrono::steady_clock;

  // `root`: what comes before /proc and /sys.
  explicit Resources(ResourceLimits limits, std::string root = {},
                     Clock::time_point now = Clock::now())
      : limits_(limits), root_(std::move(root)) {
    sample(now);
  }
  // Looks at the machine at most every tenth of a second.
  bool have_room(Clock::time_point now = Clock::now());
  std::size_t least() const { return limits_.least; }

 private:
  void sample(Clock::time_point now);
  double memory_in_use() const;
  CpuTimes container_cpu(Clock::time_point now) const;
  std::string text_of(std::string_view path) const;

  const ResourceLimits limits_;
  const std::string root_;
  std::mutex mutex_;
  Clock::time_point sampled_{};
  double memory_ = 0;
  double cpu_ = 0;
  CpuTimes cpu_times_;
};

// The share that is in use, from what these files hold; 0 if they tell nothing.
double used_memory(std::string_view meminfo);
// Without the page cache that the kernel takes back first, as tools for containers count it.
double used_memory(std::string_view cgroup_current, std::string_view cgroup_max,
                   std::string_view cgroup_stat);
CpuTimes cpu_times(std::string_view proc_stat);
// Of the machine; 0: it does not say.
double processors(std::string_view proc_stat);
// "200000 100000" are 2; 0: no quota.
double quota_cores(std::string_view cpu_max);

// For a pool of slots; one without a gate if there are no resources to look at.
SlotGate gate_for(const std::shared_ptr<Resources>& resources,
                  const std::shared_ptr<TimerQueue>& timers);

}  // namespace tempora::pollers
