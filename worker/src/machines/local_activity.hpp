// A local activity: it leaves one event, a marker, when it ends.
//
// clang-format off
//   state           | on                               | to              | does
//   ----------------+----------------------------------+-----------------+------------------------
//   Created         | the run comes to rest            | Running         | the worker may start it
//   Created         | cancel                           | Final           | future cancelled;
//                   |                                  |                 | leaves nothing
//   Running         | result (live), marker (replay)   | Final           | marker, future gets it
//   Running         | failure with a long pause        | BackingOff      | marker, timer
//   Running         | cancel (try, abandon)            | Final           | marker, future
//                   |                                  |                 | cancelled; the worker is
//                   |                                  |                 | told or lets it go on
//   Running         | cancel (wait)                    | CancelRequested | the worker is told
//   CancelRequested | as Running, but for cancel       |                 |
//   BackingOff      | TimerFired                       | Created         | the next attempt
//   BackingOff      | cancel                           | Final           | CancelTimer, future
//                   |                                  |                 | cancelled
// clang-format on
//
// The marker has the name and format of the official SDKs, so that Temporal's UI shows it.
#pragma once

#include <tempora/activity_type.hpp>

#include "engine/local.hpp"
#include "machines/machine.hpp"
#include "machines/timer.hpp"

namespace tempora::engine {

inline constexpr const char* kLocalActivityMarker = "core_local_activity";

// What the marker of a local activity says.
struct LocalMarker {
  std::uint64_t seq = 0;  // zero: the event is none
  std::string activity_type;
  int attempt = 1;
  TimePoint complete_time{};
  std::optional<Duration> backoff;
  Payloads result;
  std::optional<temporal::api::failure::v1::Failure> failure;
};
LocalMarker read_local_activity(const HistoryEvent& event);

class LocalActivityMachine final : public Machine, public detail::Cancellable {
 public:
  LocalActivityMachine(RunState& run, detail::Ref<detail::FutureState> future, LocalRequest request,
                       CancellationType cancellation, std::string summary, SourceLocation where);
  ~LocalActivityMachine() override;

  void start();
  std::uint64_t seq() const { return request_.seq; }
  const std::string& type() const { return request_.activity_type; }
  TimePoint began() const { return began_; }
  // The run has come to rest: from now on it leaves a marker, whatever happens.
  void hand_over();
  // The order for the worker; nothing if it has it already.
  std::optional<LocalRequest> take_order();

  // What the server would not take as a marker becomes shorter, or a failure that says so: else the
  // task would fail each time, and each time the activity would have run again.
  void make_fit(LocalMarker& end, std::size_t limit) const;
  void resolve(const LocalMarker& end);
  void cancel(const std::string& reason) override;
  // The pause is over.
  void try_again();

  std::string describe(enums::CommandType type) const override;
  bool matches(enums::CommandType type, const HistoryEvent& event) const override;
  void recorded(enums::CommandType, const HistoryEvent&) override {}

 private:
  enum class State : std::uint8_t { kCreated, kRunning, kCancelRequested, kBackingOff, kFinal };

  void record(const LocalMarker& end);
  void write(const LocalMarker& end, temporal::api::command::v1::Command& command) const;
  void fail_future(const std::string& what, enums::RetryState retry_state,
                   const temporal::api::failure::v1::Failure& cause);

  detail::Ref<detail::FutureState> future_;
  LocalRequest request_;
  std::string summary_;
  SourceLocation where_;
  TimerMachine* timer_ = nullptr;  // alive while backing off
  TimePoint began_{};              // the workflow's clock, when the attempts under way were ordered
  std::uint64_t recorded_seq_ = 0;
  CancellationType cancellation_;
  State state_ = State::kCreated;
  bool ordered_ = false;  // the worker has it
};

}  // namespace tempora::engine
