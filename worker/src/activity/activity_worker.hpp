// Runs the activity tasks of one task queue: takes them from polls or, eagerly,
// from workflow task completions, runs them on threads, and answers each
// exactly once.
#pragma once

#include <temporal/api/workflowservice/v1/request_response.pb.h>

#include <atomic>
#include <cstddef>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <tempora/activity.hpp>
#include <tempora/interceptor.hpp>
#include <tempora/metrics.hpp>
#include <tempora/versioning.hpp>
#include <unordered_map>
#include <vector>

#include "../pollers/calls.hpp"
#include "../pollers/poll_group.hpp"
#include "../pollers/resources.hpp"
#include "../pollers/slots.hpp"
#include "../pollers/thread_pool.hpp"
#include "activity_registry.hpp"
#include "activity_state.hpp"
#include "heartbeat.hpp"
#include "type_limits.hpp"

namespace tempora::activity {

struct ActivityWorkerOptions {
  std::string namespace_;
  std::string task_queue;
  std::string identity;
  std::string worker_instance_key;
  std::size_t max_concurrent = 100;
  std::shared_ptr<pollers::Resources> resources;  // or null
  std::size_t polls = 5;
  std::size_t most_polls = 0;  // above 0: the server's hints move the number up to this
  HeartbeatThrottle heartbeats;
  std::map<std::string, std::size_t> max_by_type{};
  std::size_t payload_limit_bytes = std::size_t{2} << 20;
  std::size_t payload_warning_bytes = 0;
  double max_per_second = 0;             // 0: no limit; this worker
  double max_task_queue_per_second = 0;  // 0: no limit; the whole queue, enforced by the server
  std::optional<WorkerVersioning> versioning{};
  Logger log;
  std::vector<std::shared_ptr<ActivityInterceptor>> interceptors{};
  std::shared_ptr<Metrics> metrics;
};

class ActivityWorker : public std::enable_shared_from_this<ActivityWorker> {
 public:
  using Task = temporal::api::workflowservice::v1::PollActivityTaskQueueResponse;
  using Clock = TimerQueue::Clock;

  ActivityWorker(std::shared_ptr<const pollers::CallEnvironment> environment,
                 std::shared_ptr<const ActivityRegistry> registry, ActivityWorkerOptions options);

  void start();

  // Slots for activities that a workflow task is about to schedule on this very
  // queue; up to `wanted`, maybe none.
  std::vector<pollers::Permit> reserve_eager(std::size_t wanted);
  bool knows(const std::string& activity_type) const {
    return registry_->find(activity_type) != nullptr;
  }
  void accept(std::unique_ptr<Task> task, pollers::Permit permit, bool eager);

  // The steps of a shutdown, in this order.
  void stop_polling();
  void cancel_polls();
  bool wait_polls_closed(Clock::time_point until);
  bool wait_idle(Clock::time_point until);
  void cancel_running(CancelReason reason);
  // Waits for the threads until `until`; false if an activity still runs then
  // and is left to itself.
  bool stop_threads(Clock::time_point until);
  // As after a crash: nothing that ends from now on is answered.
  void abandon();

  pollers::TaskNumbers numbers() const;

 private:
  struct Running;
  struct Answer;

  void run(const std::shared_ptr<Running>& running);
  Answer call_function(Running& running, const ActivityFunction& function) const;
  Answer stopped(const Running& running) const;
  template <class Request>
  Request answer_of(const Running& running) const;
  void answer(const std::shared_ptr<Running>& running, Answer answer);
  template <class Response, class Request>
  void send(const std::shared_ptr<Running>& running, std::string_view method, Request request);
  void watch(const std::shared_ptr<Running>& running);
  SendHeartbeat heartbeat_sender(const Task& task,
                                 const std::weak_ptr<detail::ActivityState>& state) const;
  void heartbeat_refused(const std::shared_ptr<Running>& running,
                         temporal::api::failure::v1::Failure failure);
  static CallPlan answer_plan(const Running& running);
  void count(std::string_view name, const Task& task) const;
  void count_success(const Running& running) const;
  void check_result(const Running& running, Answer& outcome) const;
  void answer_refused(const std::shared_ptr<Running>& running, std::string_view type,
                      const std::string& why, bool non_retryable);
  void finish(const std::shared_ptr<Running>& running);

  const std::shared_ptr<const pollers::CallEnvironment> environment_;
  const std::shared_ptr<const ActivityRegistry> registry_;
  const ActivityWorkerOptions options_;
  const std::shared_ptr<const Logger> log_;
  const std::shared_ptr<pollers::SlotPool> slots_;
  const std::shared_ptr<pollers::ThreadPool> threads_;
  std::shared_ptr<pollers::PollGroup> polls_;
  TypeLimits type_limits_;
  std::atomic<std::int32_t> processed_{0};
  std::atomic<std::int32_t> failed_{0};
  std::atomic<bool> stopping_{false};
  std::atomic<bool> abandoned_{false};
  std::mutex mutex_;
  std::unordered_map<const Running*, std::weak_ptr<Running>> running_;
};

}  // namespace tempora::activity
