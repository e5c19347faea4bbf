// A timer.
//
// clang-format off
//   state           | on                               | to              | does
//   ----------------+----------------------------------+-----------------+-------------------------
//   Created         | TimerStarted (match)             | Recorded        | remembers the event id
//   Created         | cancel, command not yet sent     | Final           | drops the command,
//                   |                                  |                 | future cancelled
//   Recorded        | TimerFired                       | Final           | future ready
//   Recorded        | cancel                           | CancelRequested | CancelTimer command,
//                   |                                  |                 | future cancelled at once
//   CancelRequested | TimerCanceled (match)            | Final           | –
//   CancelRequested | TimerFired, CancelTimer not sent | Final           | drops CancelTimer
// clang-format on
//
// If the fire was buffered by the server when CancelTimer came, the cancel wins and no TimerFired
// is written.
#pragma once

#include <tempora/time.hpp>

#include "machines/machine.hpp"

namespace tempora::engine {

class TimerMachine : public Machine, public detail::Cancellable {
 public:
  TimerMachine(RunState& run, detail::Ref<detail::FutureState> future, std::string id,
               SourceLocation where);
  ~TimerMachine() override;

  void start(Duration duration, const std::string& summary);
  void cancel(const std::string& reason) override;

  std::string describe(enums::CommandType type) const override;
  bool matches(enums::CommandType type, const HistoryEvent& event) const override;
  void recorded(enums::CommandType type, const HistoryEvent& event) override;
  bool on_event(const HistoryEvent& event) override;

 protected:
  // After the future, if somebody stands behind the timer itself.
  virtual void fired() {}

 private:
  enum class State : std::uint8_t { kCreated, kRecorded, kCancelRequested, kFinal };

  detail::Ref<detail::FutureState> future_;
  std::string id_;
  SourceLocation where_;
  std::int64_t started_event_id_ = 0;
  State state_ = State::kCreated;
};

}  // namespace tempora::engine
