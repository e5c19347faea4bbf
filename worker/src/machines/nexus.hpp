// A Nexus operation: one future for its start and one for its result.
//
// clang-format off
//   state           | on                                     | to              | does
//   ----------------+----------------------------------------+-----------------+-------------------
//   Created         | NexusOperationScheduled (match)        | Recorded        | keeps the event id
//   Created         | cancel, command not yet sent           | Final           | drops the command,
//                   |                                        |                 | both cancelled
//   Recorded        | Started                                | Recorded        | start ready
//   Recorded        | Completed, Failed, Canceled, TimedOut  | Final           | both get the end
//   Recorded        | cancel (wait completed, requested)     | CancelRequested | RequestCancel
//   Recorded        | cancel (try)                           | Abandoned       | RequestCancel,
//                   |                                        |                 | both cancelled
//   Recorded        | cancel (abandon)                       | Abandoned       | both cancelled
//   CancelRequested | as Recorded, but for cancel            |                 | an unsent request
//                   |                                        |                 | goes with the end
//   CancelRequested | CancelRequestCompleted (wait requested)| Abandoned       | both cancelled
//   CancelRequested | CancelRequestFailed (wait requested)   | Abandoned       | both failed
//   Abandoned       | any of its events                      | Abandoned       | –; Final with the
//                   |                                        |                 | last
// clang-format on
//
// The answer to a request to cancel may come after the end: then nobody is here any more, and the
// run passes it over.
#pragma once

#include <tempora/nexus.hpp>

#include "machines/machine.hpp"

namespace tempora::engine {

class NexusMachine final : public Machine, public detail::Cancellable {
 public:
  using StartedState = detail::ValueState<std::string>;

  NexusMachine(RunState& run, detail::Ref<StartedState> started,
               detail::Ref<detail::FutureState> result, const detail::NexusRequest& request);
  ~NexusMachine() override;

  void schedule(detail::NexusRequest request);
  void cancel(const std::string& reason) override;

  std::string describe(enums::CommandType type) const override;
  bool matches(enums::CommandType type, const HistoryEvent& event) const override;
  void recorded(enums::CommandType type, const HistoryEvent& event) override;
  bool on_event(const HistoryEvent& event) override;

 private:
  enum class State : std::uint8_t { kCreated, kRecorded, kCancelRequested, kAbandoned, kFinal };

  void request_cancel();
  void cancel_answered(const temporal::api::failure::v1::Failure* refusal);
  void close();
  void fail_with(const temporal::api::failure::v1::Failure& failure);
  void fail(std::string message, const temporal::api::failure::v1::Failure& cause);
  void fail_as_cancelled(const std::string& reason);

  detail::Ref<StartedState> started_;
  detail::Ref<detail::FutureState> result_;
  std::string endpoint_;
  std::string service_;
  std::string operation_;
  std::string token_;
  std::string cancel_reason_;
  SourceLocation where_;
  std::int64_t scheduled_event_id_ = 0;
  NexusCancellationType cancellation_;
  State state_ = State::kCreated;
};

}  // namespace tempora::engine
