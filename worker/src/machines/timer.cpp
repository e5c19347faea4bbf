#include "machines/timer.hpp"

#include <fmt/format.h>

#include <tempora/failure.hpp>

#include "converter/options.hpp"
#include "engine/run_state.hpp"

namespace tempora::engine {

TimerMachine::TimerMachine(RunState& run, detail::Ref<detail::FutureState> future, std::string id,
                           SourceLocation where)
    : Machine(run), future_(std::move(future)), id_(std::move(id)), where_(where) {
  future_->owner = this;
}

TimerMachine::~TimerMachine() {
  if (future_ && future_->owner == this) future_->owner = nullptr;
}

void TimerMachine::start(Duration duration, const std::string& summary) {
  auto command = run_.make_command(enums::COMMAND_TYPE_START_TIMER);
  if (command) {
    auto& attributes = *command->mutable_start_timer_command_attributes();
    attributes.set_timer_id(id_);
    write(duration, attributes.mutable_start_to_fire_timeout());
    write_metadata(summary, {}, *command);
  }
  run_.queue(enums::COMMAND_TYPE_START_TIMER, this, std::move(command), where_);
}

void TimerMachine::cancel(const std::string& reason) {
  const detail::Ref<TimerMachine> self{this};
  if (state_ == State::kCreated) {
    run_.drop_unsent(*this, enums::COMMAND_TYPE_START_TIMER);
    state_ = State::kFinal;
  } else if (state_ == State::kRecorded) {
    state_ = State::kCancelRequested;
    auto command = run_.make_command(enums::COMMAND_TYPE_CANCEL_TIMER);
    if (command) command->mutable_cancel_timer_command_attributes()->set_timer_id(id_);
    run_.queue(enums::COMMAND_TYPE_CANCEL_TIMER, this, std::move(command), where_);
  } else {
    return;
  }
  future_->fail(std::make_exception_ptr(CanceledError{reason.empty() ? "timer canceled" : reason}));
  future_ = {};
}

std::string TimerMachine::describe(enums::CommandType type) const {
  return fmt::format("{} timer_id \"{}\"", name_of(type), id_);
}

bool TimerMachine::matches(enums::CommandType type, const HistoryEvent& event) const {
  return type == enums::COMMAND_TYPE_START_TIMER
             ? event.timer_started_event_attributes().timer_id() == id_
             : event.timer_canceled_event_attributes().timer_id() == id_;
}

void TimerMachine::recorded(enums::CommandType type, const HistoryEvent& event) {
  if (type == enums::COMMAND_TYPE_START_TIMER) {
    state_ = State::kRecorded;
    started_event_id_ = event.event_id();
    run_.expect_events(started_event_id_, this);
  } else {
    state_ = State::kFinal;
    run_.forget_events(started_event_id_);
  }
}

bool TimerMachine::on_event(const HistoryEvent& event) {
  if (event.event_type() != enums::EVENT_TYPE_TIMER_FIRED) return false;
  const detail::Ref<TimerMachine> self{this};
  if (state_ == State::kCancelRequested) {
    if (!run_.drop_unsent(*this, enums::COMMAND_TYPE_CANCEL_TIMER)) return false;
  } else if (state_ != State::kRecorded) {
    return false;
  }
  state_ = State::kFinal;
  run_.forget_events(started_event_id_);
  if (!future_) return true;  // cancelled
  future_->fulfil();
  future_ = {};
  fired();
  return true;
}

}  // namespace tempora::engine
