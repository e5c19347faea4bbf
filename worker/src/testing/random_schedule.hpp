// Random schedules of everything a workflow can do, for any server: a generator, the workflow that
// follows a schedule, and a model that says what it must return. The same number gives the same
// schedule.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <tempora/definition.hpp>
#include <tempora/nexus.hpp>
#include <tempora/saga.hpp>
#include <vector>

namespace tempora::testing {

// What the workflow is given and hands on when it continues as new.
struct ScheduleState {
  nlohmann::json steps;
  int signals_expected = 0;
  int updates_expected = 0;
  std::size_t next = 0;
  std::vector<std::string> log;
  std::vector<int> signals;
  std::vector<int> puts;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(ScheduleState, steps, signals_expected, updates_expected, next,
                                   log, signals, puts)

struct RandomSchedule {
  // `endpoint`: of Nexus, for the operations.
  explicit RandomSchedule(std::uint64_t seed, const std::string& endpoint = "schedules");

  struct Message {
    std::chrono::milliseconds at;  // since the start; of several the first comes first
    // A refused update leaves no trace. A cancellation may come too late.
    enum class Kind { kSignal, kUpdate, kRefusedUpdate, kQuery, kCancel } kind;
    int value = 0;
    bool with_previous = false;  // by the same sender, without waiting for anything
    bool with_start = false;     // the first signal may come in the call that starts the workflow
  };
  std::uint64_t seed;
  ScheduleState start;
  std::vector<Message> messages;
  // Then the log may end early, and signals and updates may meet a run that has ended.
  bool may_be_cancelled() const;
  // By the model: without time, tasks or histories.
  std::vector<std::string> expected() const;
};

// What its activities do; `double` of a number n is 2n. An attempt whose worker is lost holds its
// workflow up until it times out, so all that end by themselves have little time.
inline const ActivityType<int, int> kDouble{
    "double",
    {.start_to_close = std::chrono::seconds{5},
     .retry = RetryPolicy{.initial_interval = std::chrono::milliseconds{1}}}};
// Fails, for good if it is told so.
inline const ActivityType<bool, int> kRefuse{
    "refuse",
    {.start_to_close = std::chrono::seconds{5},
     .retry = RetryPolicy{.initial_interval = std::chrono::milliseconds{1}}}};
// Fails before the n-th attempt; then n.
inline const ActivityType<int, int> kPersist{
    "persist",
    {.start_to_close = std::chrono::seconds{5},
     .retry = RetryPolicy{.initial_interval = std::chrono::milliseconds{1}}}};
// Left open by its function, answered from elsewhere: 2n, or for less than zero a refusal for good.
inline const ActivityType<int, int> kElsewhere{
    "elsewhere",
    {.start_to_close = std::chrono::seconds{5},
     .retry = RetryPolicy{.initial_interval = std::chrono::milliseconds{1}}}};
// Never ends by itself.
inline const ActivityType<Void, int> kHang{"hang",
                                           {.start_to_close = std::chrono::hours{1},
                                            .heartbeat = std::chrono::seconds{10},
                                            .cancellation = CancellationType::kTryCancel}};
// 3n.
inline const NexusOperation<int, int> kTriple{"schedules", "triple"};
// Goes on as a `ScheduledWorkflow` of the given id that waits for ever.
inline const NexusOperation<std::string, std::vector<std::string>> kLasting{"schedules", "lasting"};

class ScheduledWorkflow {
 public:
  Task<std::vector<std::string>> run(Context& ctx, ScheduleState state);
  Task<void> note(Context& ctx, int value);
  Task<int> put(Context& ctx, int value);
  void may_put(const int& value) const;
  std::vector<std::string> log() const { return state_.log; }

 private:
  Task<std::string> step(Context& ctx, nlohmann::json step);
  static std::string record(Context& ctx, const nlohmann::json& step);
  Task<std::string> together(Context& ctx, std::vector<int> numbers);
  Task<std::string> in_turn(Context& ctx, int count);
  Task<std::string> limited(Context& ctx, int count);
  Task<std::string> child(Context& ctx, nlohmann::json step);
  Task<std::string> cancelled_child(Context& ctx, bool by_id);
  Task<std::string> failed_child(Context& ctx, bool retried);
  Task<std::string> taken_id(Context& ctx, bool ended);
  Task<std::string> cancelled_scope(Context& ctx, std::string what);
  Task<std::string> timed_wait(Context& ctx, int most_ms, bool opens);
  Task<std::string> shielded(Context& ctx);
  Task<std::string> refused(Context& ctx, bool local);
  Task<std::string> attempts(Context& ctx, int count, bool local);
  Task<std::string> elsewhere(Context& ctx, int n);
  Task<std::string> nexus(Context& ctx, std::string endpoint, int n);
  Task<std::string> cancelled_nexus(Context& ctx, std::string endpoint);
  Task<std::string> nobody(Context& ctx, bool cancel);
  Task<std::string> race(Context& ctx, int first, int second);
  Task<std::string> side_effect(Context& ctx);
  Task<std::string> chance(Context& ctx);
  Task<std::string> undo(Context& ctx, int count);

  // Shared by tasks, of which each may be the last: a cancellation ends them in any order.
  struct Turns {
    Mutex mutex;
    std::vector<int> order;
  };
  struct Places {
    Semaphore free{2};
    int inside = 0;
    int most = 0;
  };
  Task<void> take_turn(Context& ctx, std::shared_ptr<Turns> turns, int index);
  Task<void> take_place(Context& ctx, std::shared_ptr<Places> places);
  Task<void> open_later(Context& ctx, std::shared_ptr<bool> open);
  Task<void> open_shielded(Context& ctx, std::shared_ptr<bool> open);

  ScheduleState state_;
  Mutex putting_;
};

const Definition<ScheduledWorkflow>& scheduled_workflow();

}  // namespace tempora::testing
