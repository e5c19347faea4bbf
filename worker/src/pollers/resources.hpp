// How full this machine is, or the container if it has limits of its own.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string_view>
#include <tempora/worker.hpp>

#include "../transport/timer_queue.hpp"
#include "slots.hpp"

namespace tempora::pollers {

class Resources {
 public:
  explicit Resources(ResourceLimits limits) : limits_(limits) { sample(); }
  // Looks at the machine at most every tenth of a second.
  bool have_room();
  std::size_t least() const { return limits_.least; }

 private:
  void sample();

  const ResourceLimits limits_;
  std::mutex mutex_;
  std::chrono::steady_clock::time_point sampled_{};
  double memory_ = 0;
  double cpu_ = 0;
  std::uint64_t busy_ = 0;
  std::uint64_t total_ = 0;
};

// The share that is in use, from what these files hold; 0 if they tell nothing.
double used_memory(std::string_view meminfo);
double used_memory(std::string_view cgroup_current, std::string_view cgroup_max);
struct CpuTimes {
  std::uint64_t busy = 0;
  std::uint64_t total = 0;
};
CpuTimes cpu_times(std::string_view proc_stat);

// For a pool of slots; one without a gate if there are no resources to look at.
SlotGate gate_for(const std::shared_ptr<Resources>& resources,
                  const std::shared_ptr<TimerQueue>& timers);

}  // namespace tempora::pollers
