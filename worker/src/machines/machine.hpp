// What all state machines share. A machine stands for one operation of the workflow, from the
// command that asks for it to the last event about it. Live and on replay the same code runs:
// commands go into the run's FIFO, command events of the history are matched against it, and what
// is left after the last task is sent.
#pragma once

#include <temporal/api/command/v1/message.pb.h>
#include <temporal/api/history/v1/message.pb.h>

#include <cstdint>
#include <source_location>
#include <string>
#include <tempora/detail/scheduler.hpp>

namespace tempora::engine {

class RunState;

namespace enums = temporal::api::enums::v1;
using temporal::api::command::v1::Command;
using temporal::api::history::v1::HistoryEvent;
using SourceLocation = std::source_location;

class Machine : public detail::RefCounted {
 public:
  explicit Machine(RunState& run);

  // What the command says, for texts about nondeterminism: `StartTimer timer_id "1"`.
  virtual std::string describe(enums::CommandType type) const = 0;
  // Whether `event` records this command. The event's type has been compared already.
  virtual bool matches(enums::CommandType type, const HistoryEvent& event) const = 0;
  // The command's event has been seen: from here on the machine knows its event id.
  virtual void recorded(enums::CommandType type, const HistoryEvent& event) = 0;
  // An event that points back at this machine. False: illegal in this state.
  virtual bool on_event(const HistoryEvent& event);

 protected:
  RunState& run_;

 private:
  // In which it was begun: an operation may outlive the coroutine whose scope that was, and is
  // cancelled with it all the same.
  const detail::Ref<detail::ScopeState> scope_;
};

// The event that records a command of this type.
enums::EventType event_of(enums::CommandType type);
bool is_command_event(enums::EventType type);
// The event that ends a run because the run said so.
bool is_terminal_command_event(enums::EventType type);
// The id of the event that started what this event is about; zero if it points at nothing.
std::int64_t initiating_event_id(const HistoryEvent& event);
// "ActivityTaskScheduled"
std::string name_of(enums::EventType type);
// "ScheduleActivityTask"
std::string name_of(enums::CommandType type);
// The event with its key attributes.
std::string describe(const HistoryEvent& event);

}  // namespace tempora::engine
