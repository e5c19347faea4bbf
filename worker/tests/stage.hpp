// A stage for behaviour tests: a client on the real server, a task queue of its own, a worker that
// can be killed and started again. Every test body runs three times at once, with the workflow
// cache off, with room for one run, and with the default size: with the cache off every task
// replays the run from its first event. At the end every history that the test made is replayed.
#pragma once

#include <gtest/gtest.h>

#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <string_view>
#include <tempora/client.hpp>
#include <tempora/definition.hpp>
#include <tempora/worker.hpp>
#include <tempora/workflow.hpp>
#include <utility>
#include <vector>

namespace tempora::behaviour {

using namespace std::chrono_literals;

// The value, or an exception with the error's text: a test cannot go on without it.
template <class T>
T must(Outcome<T> outcome) {
  if (!outcome) throw std::runtime_error{outcome.error().text()};
  if constexpr (!std::is_void_v<T>) return std::move(*outcome);
}

// The answer where a worker was killed a moment ago: its open poll may take the first question with
// it.
template <class T>
T query_after_kill(const WorkflowHandle& handle, std::string_view name) {
  Outcome<T> answer = handle.query<T>(name);
  if (!answer) answer = handle.query<T>(name);
  return must(std::move(answer));
}

class Stage {
 public:
  Stage(Client client, std::size_t max_cached);
  ~Stage();

  template <class W>
  Stage& runs(const Definition<W>& definition) {
    registry_.add(definition);
    registrations_.push_back([definition](Worker& worker) { worker.add(definition); });
    return *this;
  }
  Stage& runs(const std::shared_ptr<const WorkflowDefinition>& definition) {
    registry_.add(definition);
    registrations_.push_back([definition](Worker& worker) { worker.add_workflow(definition); });
    return *this;
  }
  // Whatever else is asked for.
  template <class W>
  Stage& runs_any(const Definition<W>& definition) {
    registry_.add_fallback(definition);
    registrations_.push_back([definition](Worker& worker) { worker.add_fallback(definition); });
    return *this;
  }
  template <class I, class O, class F>
  Stage& does(const ActivityType<I, O>& type, F function) {
    registrations_.push_back([type, function](Worker& worker) { worker.add(type, function); });
    return *this;
  }

  // Whatever else is to be done.
  Stage& does_any(const ActivityFunction& function) {
    registrations_.push_back(
        [function](Worker& worker) { worker.add_fallback_activity(function); });
    return *this;
  }

  template <class I, class O, class F>
  Stage& serves(const NexusOperation<I, O>& operation, F function) {
    registrations_.push_back(
        [operation, function](Worker& worker) { worker.add(operation, function); });
    return *this;
  }

  // Changed before `start_worker`.
  WorkerOptions options;
  // For activities that wait for news, which come with a beat: a long heartbeat time-out that a
  // slow machine keeps, and beats much more often than that.
  void beat_often() { options.max_heartbeat_throttle_interval = std::chrono::milliseconds{200}; }
  void start_worker();
  Worker& worker() { return *worker_; }
  // As SIGKILL: nothing more is answered.
  void kill_worker();

  const Client& client() const { return client_; }
  const std::string& queue() const { return options.task_queue; }
  std::size_t max_cached() const { return options.max_cached_workflows; }
  StartOptions start_options();

  template <class W, class... A>
  WorkflowHandle start(const Definition<W>& definition, const A&... arguments) {
    return start_with(definition, start_options(), arguments...);
  }
  template <class W, class... A>
  WorkflowHandle start_with(const Definition<W>& definition, const StartOptions& how,
                            const A&... arguments) {
    WorkflowHandle handle = must(client_.start(definition, how, arguments...));
    remember(handle);
    return handle;
  }
  // Its history is replayed at the end, too.
  void remember(const WorkflowHandle& handle);

  // Waits until the history holds `times` events of the type.
  void wait_for_event(const WorkflowHandle& handle, int event_type, int times = 1);
  int count_events(const WorkflowHandle& handle, int event_type);

  void replay_all();

 private:
  Client client_;
  WorkflowRegistry registry_;
  std::vector<std::function<void(Worker&)>> registrations_;
  std::unique_ptr<Worker> worker_;
  std::vector<WorkflowHandle> started_;
};

// Skips the test if there is no server.
#define NEEDS_SERVER() ADDRFLOW_NEEDS_PEER("TEMPORAL_ADDRESS")

Client connect(ConnectionOptions options = {});

// Runs `body(stage)` for each cache size at once; what it throws fails the test.
void with_each_cache(const std::function<void(Stage&)>& body, const ConnectionOptions& how = {});
// With the default cache only, for behaviour that does not depend on it.
void with_default_cache(const std::function<void(Stage&)>& body);

// Unique within this process and any other.
std::string unique(const std::string& prefix);

}  // namespace tempora::behaviour
