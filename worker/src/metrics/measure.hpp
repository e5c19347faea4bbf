// How the worker measures: latencies from times of either clock, slots and polls as gauges.
#pragma once

#include <algorithm>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <tempora/metrics.hpp>
#include <tempora/time.hpp>

namespace tempora::metrics {

// Clocks of two machines may differ: never below zero.
inline double seconds_between(TimePoint from, TimePoint to) {
  return std::max(0.0, std::chrono::duration<double>{to - from}.count());
}

inline double seconds_since(std::chrono::steady_clock::time_point from) {
  return std::chrono::duration<double>{std::chrono::steady_clock::now() - from}.count();
}

// What the server's times are compared with.
inline TimePoint wall_clock() {
  return std::chrono::time_point_cast<Duration>(std::chrono::system_clock::now());
}

// Whoever counts often asks first, so that it costs nothing if nobody wants to know.
inline bool wanted(const std::shared_ptr<Metrics>& metrics) { return metrics != no_metrics(); }

inline std::function<void(std::size_t, std::size_t)> slot_gauges(
    const std::shared_ptr<Metrics>& metrics, const std::string& name_space,
    const std::string& task_queue, std::string worker_type) {
  if (!wanted(metrics)) return nullptr;
  return [metrics, name_space, task_queue, worker_type = std::move(worker_type)](std::size_t used,
                                                                                 std::size_t free) {
    const MetricTag tags[] = {
        {"namespace", name_space}, {"task_queue", task_queue}, {"worker_type", worker_type}};
    metrics->gauge("temporal_worker_task_slots_used", static_cast<double>(used), tags);
    metrics->gauge("temporal_worker_task_slots_available", static_cast<double>(free), tags);
  };
}

inline std::function<void(std::size_t)> poll_gauge(const std::shared_ptr<Metrics>& metrics,
                                                   const std::string& name_space,
                                                   const std::string& task_queue,
                                                   std::string poller_type) {
  if (!wanted(metrics)) return nullptr;
  return [metrics, name_space, task_queue, poller_type = std::move(poller_type)](std::size_t open) {
    const MetricTag tags[] = {
        {"namespace", name_space}, {"task_queue", task_queue}, {"poller_type", poller_type}};
    metrics->gauge("temporal_num_pollers", static_cast<double>(open), tags);
  };
}

}  // namespace tempora::metrics
