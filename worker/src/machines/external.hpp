// Signals to other workflows, and requests that they end.
//
// clang-format off
//   a signal
//   state    | on                                          | to       | does
//   ---------+---------------------------------------------+----------+--------------------------
//   Created  | SignalExternal…Initiated (match)            | Recorded | keeps the event id
//   Created  | cancel, command not yet sent                | Final    | drops the command,
//            |                                             |          | future cancelled
//   Recorded | cancel                                      | Recorded | – (it is on its way)
//   Recorded | ExternalWorkflowExecutionSignaled           | Final    | future ready
//   Recorded | SignalExternal…Failed                       | Final    | future failed
//
//   a request to cancel
//   Created  | RequestCancelExternal…Initiated (match)     | Recorded | keeps the event id
//   Recorded | ExternalWorkflowExecutionCancelRequested    | Final    | future ready
//   Recorded | RequestCancelExternal…Failed                | Final    | future failed
// clang-format on
#pragma once

#include <tempora/child_workflow.hpp>

#include "machines/machine.hpp"

namespace tempora::engine {

class SignalExternalMachine final : public Machine, public detail::Cancellable {
 public:
  SignalExternalMachine(RunState& run, detail::Ref<detail::FutureState> future,
                        detail::WorkflowTarget target, std::string signal, SourceLocation where);
  ~SignalExternalMachine() override;

  void send(Payloads input);
  void cancel(const std::string& reason) override;

  std::string describe(enums::CommandType type) const override;
  bool matches(enums::CommandType type, const HistoryEvent& event) const override;
  void recorded(enums::CommandType type, const HistoryEvent& event) override;
  bool on_event(const HistoryEvent& event) override;

 private:
  detail::Ref<detail::FutureState> future_;
  detail::WorkflowTarget target_;
  std::string signal_;
  SourceLocation where_;
  std::int64_t initiated_event_id_ = 0;
};

// Told when a request to cancel was answered, well or badly.
class CancelListener {
 public:
  virtual void cancel_answered() = 0;

 protected:
  ~CancelListener() = default;
};

class CancelExternalMachine final : public Machine {
 public:
  CancelExternalMachine(RunState& run, detail::Ref<detail::FutureState> future,
                        detail::WorkflowTarget target, SourceLocation where)
      : Machine(run), future_(std::move(future)), target_(std::move(target)), where_(where) {}

  void send(const std::string& reason);
  void tell(CancelListener* listener) { listener_ = listener; }
  // Takes the command back if it is unsent, and tells nobody any more.
  void drop();

  std::string describe(enums::CommandType type) const override;
  bool matches(enums::CommandType type, const HistoryEvent& event) const override;
  void recorded(enums::CommandType type, const HistoryEvent& event) override;
  bool on_event(const HistoryEvent& event) override;

 private:
  detail::Ref<detail::FutureState> future_;  // null: nobody waits
  CancelListener* listener_ = nullptr;
  detail::WorkflowTarget target_;
  SourceLocation where_;
  std::int64_t initiated_event_id_ = 0;
};

}  // namespace tempora::engine
