// A child workflow: two futures, one for its start and one for its result. A request to cancel it
// is a command with events of its own (external.hpp).
//
// clang-format off
//   state           | on                                     | to              | does
//   ----------------+----------------------------------------+-----------------+-------------------
//   Created         | StartChild…Initiated (match)           | Recorded        | keeps the event id
//   Created         | cancel, command not yet sent           | Final           | drops the command,
//                   |                                        |                 | both cancelled
//   Recorded        | ChildWorkflowExecutionStarted          | Recorded        | start ready
//   Recorded        | StartChild…Failed                      | Final           | both failed
//   Recorded        | Completed, Failed, Canceled, TimedOut, | Final           | result gets the end
//                   | Terminated                             |                 |
//   Recorded        | cancel (wait completed)                | CancelRequested | request to cancel
//   Recorded        | cancel (wait requested)                | CancelRequested | request to cancel;
//                   |                                        |                 | result cancelled
//                   |                                        |                 | when it is answered
//   Recorded        | cancel (try)                           | Abandoned       | request to cancel,
//                   |                                        |                 | both cancelled
//   Recorded        | cancel (abandon)                       | Abandoned       | both cancelled
//   CancelRequested | as Recorded, but for cancel            |                 | an unsent request
//                   |                                        |                 | goes with the end
//   Abandoned       | any of its events                      | Abandoned       | –; Final with the
//                   |                                        |                 | last
// clang-format on
#pragma once

#include <tempora/child_workflow.hpp>

#include "machines/external.hpp"
#include "machines/machine.hpp"

namespace tempora::engine {

class ChildMachine final : public Machine, public detail::Cancellable, public CancelListener {
 public:
  using StartedState = detail::ValueState<std::string>;

  ChildMachine(RunState& run, detail::Ref<StartedState> started,
               detail::Ref<detail::FutureState> result, std::string id, std::string type,
               ChildCancellationType cancellation, SourceLocation where);
  ~ChildMachine() override;

  void start(const ChildWorkflowOptions& options, Payloads input);
  void cancel(const std::string& reason) override;
  void cancel_answered() override;

  std::string describe(enums::CommandType type) const override;
  bool matches(enums::CommandType type, const HistoryEvent& event) const override;
  void recorded(enums::CommandType type, const HistoryEvent& event) override;
  bool on_event(const HistoryEvent& event) override;

 private:
  enum class State : std::uint8_t { kCreated, kRecorded, kCancelRequested, kAbandoned, kFinal };

  void request_cancel(const std::string& reason);
  bool on_end(const HistoryEvent& event);
  void close();
  void fail(std::string message, enums::RetryState retry_state,
            const temporal::api::failure::v1::Failure& cause);
  void fail_as_cancelled(const std::string& reason);

  detail::Ref<StartedState> started_;
  detail::Ref<detail::FutureState> result_;
  detail::Ref<CancelExternalMachine> request_;
  std::string id_;
  std::string type_;
  std::string run_id_;
  std::string cancel_reason_;
  SourceLocation where_;
  std::int64_t initiated_event_id_ = 0;
  std::int64_t started_event_id_ = 0;
  ChildCancellationType cancellation_;
  State state_ = State::kCreated;
};

}  // namespace tempora::engine
