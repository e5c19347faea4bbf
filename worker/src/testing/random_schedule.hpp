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
  explicit RandomSchedule(std::uint64_t seed);

  struct Message {
    std::chrono::milliseconds at;  // since the start; of several the first comes first
    // A refused update leaves no trace. A cancellation may come too late.
    enum class Kind { kSignal, kUpdate, kRefusedUpdate, kQuery, kCancel } kind;
    int value = 0;
    bool with_previous = false;  // by the same sender, without waiting for anything
  };
  std::uint64_t seed;
  ScheduleState start;
  std::vector<Message> messages;
  // Then the log may end early, and signals and updates may meet a run that has ended.
  bool may_be_cancelled() const;
  // By the model: without time, tasks or histories.
  std::vector<std::string> expected() const;
};

// What its activities do; `double` of a number n is 2n.
inline const ActivityType<int, int> kDouble{
    "double",
    {.start_to_close = std::chrono::seconds{20},
     .retry = RetryPolicy{.initial_interval = std::chrono::milliseconds{1}}}};
// Fails, for good if it is told so.
inline const ActivityType<bool, int> kRefuse{
    "refuse",
    {.start_to_close = std::chrono::seconds{20},
     .retry = RetryPolicy{.initial_interval = std::chrono::milliseconds{1}}}};
// Never ends by itself.
inline const ActivityType<Void, int> kHang{"hang",
                                           {.start_to_close = std::chrono::hours{1},
                                            .heartbeat = std::chrono::seconds{10},
                                            .cancellation = CancellationType::kTryCancel}};

class ScheduledWorkflow {
 public:
  Task<std::vector<std::string>> run(Context& ctx, ScheduleState state);
  Task<void> note(Context& ctx, int value);
  Task<int> put(Context& ctx, int value);
  void may_put(const int& value) const;
  std::vector<std::string> log() const { return state_.log; }

 private:
  Task<std::string> step(Context& ctx, nlohmann::json step);
  Task<std::string> together(Context& ctx, std::vector<int> numbers);
  Task<std::string> in_turn(Context& ctx, int count);
  Task<std::string> limited(Context& ctx, int count);
  Task<std::string> child(Context& ctx, nlohmann::json step);
  Task<std::string> cancelled_child(Context& ctx, bool by_id);
  Task<std::string> cancelled_scope(Context& ctx, std::string what);
  Task<std::string> timed_wait(Context& ctx, int most_ms, bool opens);
  Task<std::string> refused_local(Context& ctx);
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

  ScheduleState state_;
  Mutex putting_;
};

const Definition<ScheduledWorkflow>& scheduled_workflow();

}  // namespace tempora::testing
