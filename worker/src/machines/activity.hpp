// An activity.
//
// clang-format off
//   state           | on                                  | to              | does
//   ----------------+-------------------------------------+-----------------+----------------------
//   Created         | ActivityTaskScheduled (match)       | Recorded        | keeps the event id
//   Created         | cancel, command not yet sent        | Final           | drops the command,
//                   |                                     |                 | future cancelled
//   Recorded        | Started                             | Recorded        | –
//   Recorded        | Completed, Failed, TimedOut,        | Final           | future gets the
//                   | Canceled                            |                 | result
//   Recorded        | cancel (try)                        | CancelRequested | RequestCancel command,
//                   |                                     |                 | future cancelled
//   Recorded        | cancel (wait)                       | CancelRequested | RequestCancel command
//   Recorded        | cancel (abandon)                    | Abandoned       | future cancelled
//   CancelRequested | ActivityTaskCancelRequested (match) | CancelRequested | –
//   CancelRequested | Completed, Failed, TimedOut,        | Final           | the result, if it is
//                   | Canceled                            |                 | still waited for; drops
//                   |                                     |                 | an unsent RequestCancel
//   Abandoned       | Completed, Failed, TimedOut,        | Final           | –
//                   | Canceled                            |                 |
// clang-format on
//
// ActivityTaskStarted is written only when the activity closes, so it always comes with the
// resolution.
#pragma once

#include <tempora/activity_type.hpp>

#include "machines/machine.hpp"

namespace tempora::engine {

class ActivityMachine final : public Machine, public detail::Cancellable {
 public:
  ActivityMachine(RunState& run, detail::Ref<detail::FutureState> future, std::string id,
                  std::string type, CancellationType cancellation, SourceLocation where);
  ~ActivityMachine() override;

  // Puts the command into the FIFO. `input` is used only where the command will really be sent.
  void schedule(const ActivityOptions& options, Payloads input);
  void cancel(const std::string& reason) override;

  std::string describe(enums::CommandType type) const override;
  bool matches(enums::CommandType type, const HistoryEvent& event) const override;
  void recorded(enums::CommandType type, const HistoryEvent& event) override;
  bool on_event(const HistoryEvent& event) override;

 private:
  enum class State : std::uint8_t { kCreated, kRecorded, kCancelRequested, kAbandoned, kFinal };

  void close();
  void fail_future(std::string message, std::int64_t started_event_id, const std::string& identity,
                   enums::RetryState retry_state, const temporal::api::failure::v1::Failure& cause);
  void fail_as_cancelled(const std::string& reason);

  detail::Ref<detail::FutureState> future_;
  std::string id_;
  std::string type_;
  SourceLocation where_;
  std::int64_t scheduled_event_id_ = 0;
  CancellationType cancellation_;
  State state_ = State::kCreated;
};

}  // namespace tempora::engine
