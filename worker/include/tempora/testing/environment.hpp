// Workflow tests in milliseconds: a Temporal service in this process, on virtual time. The worker
// and the client are the real ones; only the wire below them leads here. See
// docs/testing-workflows.md.
//
//   testing::Environment env;
//   env.add(kTrip);
//   env.add(kBook, [](const Booking& wanted) { return wanted.what; });
//   const auto trip = env.start(kTrip, "trip", std::string{"Lisbon"});
//   env.at(10min, [&] { trip.signal("pause"); });
//   EXPECT_EQ(trip.result<std::string>(), "…");
//   EXPECT_TRUE(env.replay("trip"));
//
// Nothing moves while the test does not wait for it: a result, an update, a query, `advance`. While
// somebody waits for a result or an update, time skips to the next timer as soon as nothing else
// can happen. A wait that can never end is refused with an error that says so.
#pragma once

#include <chrono>
#include <concepts>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <tempora/activity.hpp>
#include <tempora/client.hpp>
#include <tempora/codec.hpp>
#include <tempora/definition.hpp>
#include <tempora/failure.hpp>
#include <tempora/interceptor.hpp>
#include <tempora/replayer.hpp>
#include <tempora/worker.hpp>
#include <utility>
#include <vector>

namespace tempora::testing {

// One try of an activity, before a worker sees it.
struct ActivityAttempt {
  std::string workflow_id;
  std::string activity_id;
  std::string type;
  int attempt = 1;
};

// What befalls an attempt instead of, or besides, its being run.
struct ActivityFault {
  enum class Kind { kNone, kFails, kHangs } kind = Kind::kNone;
  temporal::api::failure::v1::Failure failure{};  // kFails: it is not run
  Duration slow{};  // kNone: it is run, its answer comes so much later

  static ActivityFault fails(const Failure& failure) { return {Kind::kFails, failure.proto(), {}}; }
  // It does not end by itself: it is not run, a time-out or a cancellation ends it.
  static ActivityFault hangs() { return {Kind::kHangs, {}, {}}; }
  static ActivityFault late(Duration by) { return {Kind::kNone, {}, by}; }
};

struct ActivityFaults {
  // The first rule that answers decides.
  using Rule = std::function<std::optional<ActivityFault>(const ActivityAttempt&)>;
};

struct EnvironmentOptions {
  // 0: what can happen at once happens in the order in which it came up. Any other number: in an
  // order drawn from it; the same number gives the same order.
  std::uint64_t seed = 0;
  TimePoint start{std::chrono::sys_days{std::chrono::year{2027} / 1 / 1}};
  std::string task_queue = "test";
  std::size_t max_cached_workflows = 1'000;

  // Each from 0 to 1, drawn from the seed.
  double evict_rate = 0;      // before a workflow task the cached run is lost: it is replayed
  double lost_task_rate = 0;  // the answer to a workflow task is lost: the task is done again
  double activity_failure_rate = 0;  // an attempt fails, its retry policy goes on
  double activity_timeout_rate = 0;  // an attempt hangs until its time-out; needs one

  // As in `ConnectionOptions` and `WorkerOptions`; `replay` has the codecs and the workflows'
  // interceptors, too. What the service holds is encoded.
  CodecOptions codecs{};
  std::vector<std::shared_ptr<ClientInterceptor>> client_interceptors{};
  WorkerInterceptors worker_interceptors{};

  Logger log{};  // of the worker; Logger::standard() shows what it says
};

class Environment {
 public:
  explicit Environment(EnvironmentOptions options = {});
  ~Environment();
  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;

  // --- what the worker of `task_queue` knows; before the first start
  template <class W>
  void add(const Definition<W>& definition) {
    add_workflow(definition.erased(), false);
  }
  // For every workflow type that is not added.
  template <class W>
  void add_fallback(const Definition<W>& definition) {
    add_workflow(definition.erased(), true);
  }
  // The real activity, or a fake: `O(ActivityContext&, const I&)` or `O(const I&)`. It runs on the
  // worker's threads, time stands still meanwhile.
  template <class I, class O, class F>
    requires std::invocable<const F&, ActivityContext&, const I&> ||
             std::invocable<const F&, const I&>
  void add(const ActivityType<I, O>& type, F function) {
    add_to_worker([type, function](Worker& worker) {
      if constexpr (std::invocable<const F&, ActivityContext&, const I&>) {
        worker.add(type, function);
      } else {
        worker.add(type, [function](ActivityContext&, const I& input) { return function(input); });
      }
    });
  }
  // The real handler of an operation of Nexus, or a fake: as for `Worker::add`, or `O(const I&)`.
  // Every endpoint leads to the worker that polls the task queue of its name, else to this one.
  // Include nexus_handler.hpp.
  template <class I, class O, class F>
  void add(const NexusOperation<I, O>& operation, F function) {
    add_to_worker([operation, function](Worker& worker) {
      if constexpr (std::invocable<const F&, const I&>) {
        worker.add(operation,
                   [function](NexusContext&, const I& input) { return function(input); });
      } else {
        worker.add(operation, function);
      }
    });
  }
  // For workers of one's own (other task queues, other options): `Worker{env.client(), …}`.
  Client client() const;

  // --- workflows
  template <class W, class... A>
  WorkflowHandle start(const Definition<W>& definition, std::string id, const A&... arguments) {
    return started(client_start(definition.name(), std::move(id), encode_all(arguments...)));
  }
  template <class... A>
  WorkflowHandle start(std::string_view type, std::string id, const A&... arguments) {
    return started(client_start(type, std::move(id), encode_all(arguments...)));
  }
  // Starts the worker if no workflow was started through this object yet; for those who use
  // `client()` instead.
  void start_worker();
  // Loses the worker as a crash does, and starts another with the same registrations: what it had
  // in memory is replayed.
  void restart_worker();

  // --- time
  TimePoint now() const;
  Duration elapsed() const;  // since the environment was made
  // Whatever happens within `time` happens; zero: what happens without time passing.
  void advance(Duration time);
  void settle() { advance(Duration::zero()); }
  // Runs `action` so much later, on a thread of the environment; time stands still while it runs.
  void at(Duration from_now, std::function<void()> action);

  // --- failures of activities, for all attempts from now on; what was added last is asked first
  void inject(ActivityFaults::Rule rule);
  template <class I, class O>
  void fail(const ActivityType<I, O>& type, const Failure& failure, int times = 1) {
    inject_times(type.name, times, ActivityFault::fails(failure));
  }
  template <class I, class O>
  void time_out(const ActivityType<I, O>& type, int times = 1) {
    inject_times(type.name, times, ActivityFault::hangs());
  }
  template <class I, class O>
  void slow_down(const ActivityType<I, O>& type, Duration by) {
    inject_times(type.name, -1, ActivityFault::late(by));
  }
  // How often an attempt of the activity was begun, failed and lost ones too.
  std::size_t attempts(const std::string& activity_type) const;

  // --- afterwards
  // Children too.
  std::vector<std::string> workflow_ids() const;
  // The history of the latest run, as the Temporal CLI exports it.
  std::string history_json(const std::string& workflow_id) const;
  // Replays every run of the workflow with the registered code.
  std::expected<void, ReplayError> replay(const std::string& workflow_id) const;

 private:
  struct Impl;
  void add_workflow(std::shared_ptr<const WorkflowDefinition> definition, bool fallback);
  void add_to_worker(std::function<void(Worker&)> registration);
  Outcome<WorkflowHandle> client_start(std::string_view type, std::string id, Payloads input);
  static WorkflowHandle started(Outcome<WorkflowHandle> outcome);
  void inject_times(const std::string& type, int times, ActivityFault fault);

  std::unique_ptr<Impl> impl_;
};

}  // namespace tempora::testing
