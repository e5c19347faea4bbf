// Runs the Nexus tasks of one task queue: takes requests from polls, runs their handlers on
// threads, and answers each exactly once.
#pragma once

#include <temporal/api/workflowservice/v1/request_response.pb.h>

#include <atomic>
#include <cstddef>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <tempora/interceptor.hpp>
#include <tempora/nexus_handler.hpp>
#include <tempora/versioning.hpp>
#include <unordered_map>
#include <utility>
#include <vector>

#include "pollers/calls.hpp"
#include "pollers/poll_group.hpp"
#include "pollers/resources.hpp"
#include "pollers/slots.hpp"
#include "pollers/thread_pool.hpp"

namespace tempora::nexus {

class NexusRegistry {
 public:
  // Throws `std::logic_error` if the operation has a handler already or a name is empty.
  void add(std::string service, std::string operation, std::shared_ptr<const NexusHandler> handler);
  // Throws `NexusHandlerError` kNotFound if there is none.
  const NexusHandler& find(const std::string& service, const std::string& operation) const;
  bool empty() const { return handlers_.empty(); }

 private:
  std::map<std::pair<std::string, std::string>, std::shared_ptr<const NexusHandler>> handlers_;
};

struct NexusWorkerOptions {
  std::string namespace_;
  std::string task_queue;
  std::string identity;
  std::string worker_instance_key;
  std::size_t max_concurrent = 100;
  std::shared_ptr<pollers::Resources> resources;  // or null
  std::size_t polls = 2;
  std::size_t most_polls = 0;  // above 0: the server's hints move the number up to this
  std::size_t payload_limit_bytes = std::size_t{2} << 20;
  std::optional<WorkerVersioning> versioning{};
  Logger log;
  std::vector<std::shared_ptr<NexusInterceptor>> interceptors{};
  std::shared_ptr<Metrics> metrics;
};

class NexusWorker : public std::enable_shared_from_this<NexusWorker> {
 public:
  using Task = temporal::api::workflowservice::v1::PollNexusTaskQueueResponse;
  using Clock = TimerQueue::Clock;

  NexusWorker(std::shared_ptr<const pollers::CallEnvironment> environment,
              std::shared_ptr<const NexusRegistry> registry, Client client,
              NexusWorkerOptions options);

  void start();

  // The steps of a shutdown, in this order.
  void stop_polling();
  void cancel_polls();
  bool wait_polls_closed(Clock::time_point until);
  bool wait_idle(Clock::time_point until) { return slots_->wait_idle(until); }
  void ask_to_stop();
  // Waits for the threads until `until`; false if a handler still runs then and is left to itself.
  bool stop_threads(Clock::time_point until) { return threads_->stop(until); }
  // As after a crash: nothing that ends from now on is answered.
  void abandon();

  pollers::TaskNumbers numbers() const;

 private:
  struct Running;
  struct Answer;

  void accept(std::unique_ptr<Task> task, pollers::Permit permit);
  void read_deadline(const std::shared_ptr<Running>& running);
  void run(const std::shared_ptr<Running>& running);
  Answer handle(Running& running) const;
  void call_handler(Running& running, Answer& answer) const;
  void check_size(const Answer& answer) const;
  void respond(const std::shared_ptr<Running>& running, Answer answer);
  void refuse(const std::shared_ptr<Running>& running, FailureProto failure);
  template <class Response, class Request>
  void send(const std::shared_ptr<Running>& running, std::string_view method, Request request);
  void count_failure(const Running& running, const std::string& reason);
  void finish(const std::shared_ptr<Running>& running);

  const std::shared_ptr<const pollers::CallEnvironment> environment_;
  const std::shared_ptr<const NexusRegistry> registry_;
  const Client client_;
  const NexusWorkerOptions options_;
  const std::shared_ptr<pollers::SlotPool> slots_;
  const std::shared_ptr<pollers::ThreadPool> threads_;
  std::shared_ptr<pollers::PollGroup> polls_;
  std::atomic<std::int32_t> processed_{0};
  std::atomic<std::int32_t> failed_{0};
  std::atomic<bool> abandoned_{false};
  std::mutex mutex_;
  std::unordered_map<const Running*, std::weak_ptr<Running>> running_;
};

}  // namespace tempora::nexus
