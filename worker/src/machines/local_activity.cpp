#include "machines/local_activity.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <tempora/failure.hpp>

#include "converter/options.hpp"
#include "converter/too_large.hpp"
#include "engine/run_state.hpp"

namespace tempora::engine {
namespace {

constexpr const char* kData = "data";
constexpr const char* kResult = "result";

nlohmann::ordered_json parts_of(Duration duration) {
  const auto seconds = std::chrono::floor<std::chrono::seconds>(duration);
  return {{"seconds", seconds.count()}, {"nanos", (duration - seconds).count()}};
}

Duration from_parts(const nlohmann::json& json) {
  if (!json.is_object()) return {};
  return std::chrono::seconds{json.value("seconds", std::int64_t{0})} +
         std::chrono::nanoseconds{json.value("nanos", std::int64_t{0})};
}

constexpr std::size_t kLongestText = 4'096;  // of a failure that is shortened

void shorten(std::string& text, std::size_t longest) {
  if (text.size() <= longest) return;
  std::size_t end = longest;
  // Not within a character.
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0U) == 0x80U) --end;
  text.resize(end);
  text += " (shortened)";
}

// Keeps what a handler decides by: the kind of the failure and its type.
void shorten(FailureProto& failure, std::size_t longest) {
  shorten(*failure.mutable_message(), longest);
  failure.clear_stack_trace();
  failure.clear_encoded_attributes();
  if (failure.has_application_failure_info()) {
    shorten(*failure.mutable_application_failure_info()->mutable_type(), longest);
    failure.mutable_application_failure_info()->clear_details();
  } else if (failure.has_timeout_failure_info()) {
    failure.mutable_timeout_failure_info()->clear_last_heartbeat_details();
  } else if (failure.has_canceled_failure_info()) {
    failure.mutable_canceled_failure_info()->clear_details();
  }
}

// Starts the next attempt when it fires.
class BackoffTimer final : public TimerMachine {
 public:
  BackoffTimer(RunState& run, std::string id, SourceLocation where,
               detail::Ref<LocalActivityMachine> next)
      : TimerMachine(run, detail::make_ref<detail::ValueState<void>>(), std::move(id), where),
        next_(std::move(next)) {}

 protected:
  void fired() override { std::exchange(next_, {})->try_again(); }

 private:
  detail::Ref<LocalActivityMachine> next_;
};

}  // namespace

LocalMarker read_local_activity(const HistoryEvent& event) {
  LocalMarker read;
  if (event.event_type() != enums::EVENT_TYPE_MARKER_RECORDED) return read;
  const auto& marker = event.marker_recorded_event_attributes();
  if (marker.marker_name() != kLocalActivityMarker) return read;
  const auto data = marker.details().find(kData);
  if (data == marker.details().end() || data->second.payloads_size() == 0) return read;
  const auto json = nlohmann::json::parse(data->second.payloads(0).data(), nullptr, false);
  if (!json.is_object()) return read;
  try {
    read.seq = json.value("seq", std::uint64_t{0});
    read.activity_type = json.value("activity_type", std::string{});
    read.attempt = json.value("attempt", 1);
    if (const auto time = json.find("complete_time"); time != json.end())
      read.complete_time = TimePoint{from_parts(*time)};
    if (const auto backoff = json.find("backoff"); backoff != json.end() && backoff->is_object())
      read.backoff = from_parts(*backoff);
  } catch (const nlohmann::json::exception&) {
    return {};  // somebody else's marker: it will match nothing
  }
  if (const auto result = marker.details().find(kResult); result != marker.details().end())
    read.result = result->second;
  if (marker.has_failure()) read.failure = marker.failure();
  return read;
}

LocalActivityMachine::LocalActivityMachine(RunState& run, detail::Ref<detail::FutureState> future,
                                           LocalRequest request, CancellationType cancellation,
                                           std::string summary, SourceLocation where)
    : Machine(run),
      future_(std::move(future)),
      request_(std::move(request)),
      summary_(std::move(summary)),
      where_(where),
      cancellation_(cancellation) {
  future_->owner = this;
}

void LocalActivityMachine::start() { run_.add_local(*this, request_); }

LocalActivityMachine::~LocalActivityMachine() {
  if (future_ && future_->owner == this) future_->owner = nullptr;
}

void LocalActivityMachine::hand_over() {
  if (state_ != State::kCreated) return;
  state_ = State::kRunning;
  began_ = run_.now();
}

std::optional<LocalRequest> LocalActivityMachine::take_order() {
  if (ordered_) return std::nullopt;
  ordered_ = true;
  LocalRequest order = request_;
  // Earlier attempts and the pauses after them have taken their part of the time for all.
  if (order.schedule_to_close > Duration{}) {
    const Duration spent = run_.now() - order.scheduled_time;
    order.schedule_to_close = std::max(order.schedule_to_close - spent, Duration{1});
    order.scheduled_time = run_.now();
  }
  return order;
}

void LocalActivityMachine::resolve(const LocalMarker& end) {
  const detail::Ref<LocalActivityMachine> self{this};
  run_.forget_local(*this);
  record(end);
  if (end.backoff.has_value()) {
    state_ = State::kBackingOff;
    request_.attempt = end.attempt + 1;
    auto timer = detail::make_ref<BackoffTimer>(run_, run_.next_timer_id(), where_, self);
    timer_ = timer.get();
    timer->start(*end.backoff, {});
    return;
  }
  state_ = State::kFinal;
  if (!end.failure.has_value()) {
    run_.fulfil(*future_, end.result.payloads_size() > 0 ? &end.result.payloads(0) : nullptr);
  } else if (end.failure->has_canceled_failure_info()) {
    fail_future("canceled", enums::RETRY_STATE_CANCEL_REQUESTED, *end.failure);
  } else {
    const auto& why = end.failure->application_failure_info();
    const auto& never = request_.retry.non_retryable_error_types;
    const bool final = why.non_retryable() || std::ranges::find(never, why.type()) != never.end();
    fail_future(end.failure->has_timeout_failure_info() ? "timed out" : "failed",
                final ? enums::RETRY_STATE_NON_RETRYABLE_FAILURE
                      : enums::RETRY_STATE_MAXIMUM_ATTEMPTS_REACHED,
                *end.failure);
  }
}

void LocalActivityMachine::try_again() {
  timer_ = nullptr;
  state_ = State::kCreated;
  ordered_ = false;
  run_.add_local(*this, request_);
}

void LocalActivityMachine::cancel(const std::string& reason) {
  const detail::Ref<LocalActivityMachine> self{this};
  const FailureProto cancelled = CanceledError{reason.empty() ? "canceled" : reason}.proto();
  switch (state_) {
    case State::kCreated: run_.forget_local(*this); break;
    case State::kRunning:
      if (cancellation_ != CancellationType::kAbandon) {
        if (ordered_) run_.cancel_local(request_.seq);
        request_.cancelled = true;
      } else if (ordered_) {
        run_.abandon_local(request_.seq);
      }
      if (cancellation_ == CancellationType::kWaitCancellationCompleted) {
        state_ = State::kCancelRequested;
        return;
      }
      run_.forget_local(*this);
      record({.seq = request_.seq,
              .activity_type = request_.activity_type,
              .attempt = request_.attempt,
              .complete_time = run_.now(),
              .failure = cancelled});
      break;
    case State::kBackingOff: std::exchange(timer_, nullptr)->cancel(reason); break;
    case State::kCancelRequested:
    case State::kFinal: return;
  }
  state_ = State::kFinal;
  fail_future("canceled", enums::RETRY_STATE_CANCEL_REQUESTED, cancelled);
}

void LocalActivityMachine::record(const LocalMarker& end) {
  recorded_seq_ = request_.seq;
  auto command = run_.make_command(enums::COMMAND_TYPE_RECORD_MARKER);
  if (command) write(end, *command);
  run_.queue(enums::COMMAND_TYPE_RECORD_MARKER, this, std::move(command), where_);
}

void LocalActivityMachine::write(const LocalMarker& end,
                                 temporal::api::command::v1::Command& command) const {
  auto& marker = *command.mutable_record_marker_command_attributes();
  marker.set_marker_name(kLocalActivityMarker);
  nlohmann::ordered_json data;
  data["seq"] = request_.seq;
  data["attempt"] = end.attempt;
  data["activity_id"] = request_.activity_id;
  data["activity_type"] = request_.activity_type;
  data["complete_time"] = parts_of(end.complete_time.time_since_epoch());
  data["backoff"] =
      end.backoff.has_value() ? parts_of(*end.backoff) : nlohmann::ordered_json(nullptr);
  data["original_schedule_time"] = parts_of(request_.scheduled_time.time_since_epoch());
  *(*marker.mutable_details())[kData].add_payloads() = detail::json_payload(data.dump());
  if (end.failure.has_value()) {
    *marker.mutable_failure() = *end.failure;
  } else {
    (*marker.mutable_details())[kResult] = end.result;
  }
  write_metadata(summary_, {}, command);
}

void LocalActivityMachine::make_fit(LocalMarker& end, std::size_t limit) const {
  // Whoever hands the failure on, the workflow's own failure too, needs room for more than it.
  if (end.failure.has_value() && end.failure->ByteSizeLong() > limit / 4) {
    shorten(*end.failure, std::min(kLongestText, limit / 16));
    // One level is kept, which is where a handler finds what an error of the activity was about.
    if (end.failure->has_cause()) {
      shorten(*end.failure->mutable_cause(), std::min(kLongestText, limit / 16));
      end.failure->mutable_cause()->clear_cause();
    }
  }
  if (end.failure.has_value()) return;
  const std::size_t result = end.result.ByteSizeLong();
  if (result <= limit / 4) return;
  temporal::api::command::v1::Command command;
  command.set_command_type(enums::COMMAND_TYPE_RECORD_MARKER);
  write(end, command);
  if (command.ByteSizeLong() <= limit) return;
  end.failure = payloads_too_large("the result", result, limit).proto();
  end.result.Clear();
}

void LocalActivityMachine::fail_future(const std::string& what, enums::RetryState retry_state,
                                       const FailureProto& cause) {
  FailureProto proto;
  proto.set_message(fmt::format("local activity {} {}", request_.activity_type, what));
  proto.set_source("tempora");
  *proto.mutable_cause() = cause;
  auto& info = *proto.mutable_activity_failure_info();
  info.mutable_activity_type()->set_name(request_.activity_type);
  info.set_activity_id(request_.activity_id);
  info.set_retry_state(retry_state);
  future_->fail(std::make_exception_ptr(ActivityError{std::move(proto)}));
}

std::string LocalActivityMachine::describe(enums::CommandType type) const {
  return fmt::format("{} local activity {} activity_type \"{}\"", name_of(type), recorded_seq_,
                     request_.activity_type);
}

bool LocalActivityMachine::matches(enums::CommandType, const HistoryEvent& event) const {
  const LocalMarker marker = read_local_activity(event);
  return marker.seq == recorded_seq_ && marker.activity_type == request_.activity_type;
}

}  // namespace tempora::engine
