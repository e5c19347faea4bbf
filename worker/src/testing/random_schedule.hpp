// Random schedules of everything a workflow can do, for any server: a generator, the workflow that
// follows a schedule, and a model that says what it must return. The same number gives the same
// schedule.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
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
    enum class Kind { kSignal, kUpdate, kQuery } kind;
    int value = 0;
    bool with_previous = false;  // by the same sender, without waiting for anything
  };
  std::uint64_t seed;
  ScheduleState start;
  std::vector<Message> messages;
  // By the model: without time, tasks or histories.
  std::vector<std::string> expected() const;
};

// What its activities do; `double` of a number n is 2n.
inline const ActivityType<int, int> kDouble{
    "double",
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
  int log_size() const { return static_cast<int>(state_.log.size()); }

 private:
  Task<std::string> step(Context& ctx, nlohmann::json step);
  Task<std::string> together(Context& ctx, std::vector<int> numbers);
  Task<std::string> in_turn(Context& ctx, int count);
  Task<std::string> limited(Context& ctx, int count);
  Task<std::string> child(Context& ctx, nlohmann::json step);
  Task<std::string> cancelled_child(Context& ctx);
  Task<std::string> cancelled_scope(Context& ctx, bool activity);
  Task<std::string> race(Context& ctx, int first, int second);
  Task<std::string> side_effect(Context& ctx);
  Task<std::string> chance(Context& ctx);
  Task<std::string> undo(Context& ctx, int count);
  Task<void> take_turn(Context& ctx, Mutex& mutex, std::vector<int>& order, int index);
  Task<void> take_place(Context& ctx, Semaphore& places, int& inside, int& most);

  ScheduleState state_;
  Mutex putting_;
};

const Definition<ScheduledWorkflow>& scheduled_workflow();

}  // namespace tempora::testing
