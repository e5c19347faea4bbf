// What an operator may say to a running composition: pause, resume, retry, skip, give up.
#include "clock_text.hpp"
#include "composition.hpp"
#include "failures.hpp"
#include "order.hpp"

#include <algorithm>

namespace addrflow::workflows {
namespace {

using domain::ErrorCode;
using tempora::ApplicationError;
using tempora::Failure;

constexpr std::size_t kLongestText = 256;

void require(const std::expected<void, domain::FieldError>& checked) {
  if (!checked) throw refusal(checked.error());
}

// What a person says needs a name and a why. Only `give_up` may come without, or as a bare text: a
// deprovision says it to a provision, and the first release knew no more.
v1::OperatorRequest read(Command command, const tempora::RawPayload& raw) {
  v1::OperatorRequest request;
  const bool nothing = raw.payload.metadata().empty() && raw.payload.data().empty();
  if (command != Command::kGiveUp) {
    if (!nothing) v1::decode_payload(raw.payload, request);
    return request;
  }
  if (nothing) return request;
  try {
    request.set_reason(tempora::PayloadCodec<std::string>::decode(raw.payload));
    return request;
  } catch (const tempora::PayloadError&) {
    // Not a text: then the object.
  }
  try {
    v1::decode_payload(raw.payload, request);
  } catch (const tempora::PayloadError&) {  // without a readable reason it is given up all the same
    request.Clear();
  }
  return request;
}

bool is_over(const v1::StepProgress& step) {
  const std::string& status = step.status();
  return status != "waiting" && status != "running" && status != "blocked";
}

}  // namespace

std::string_view to_string(Command command) {
  switch (command) {
    case Command::kPause: return "pause";
    case Command::kResume: return "resume";
    case Command::kRetry: return "retry";
    case Command::kSkip: return "skip";
    case Command::kGiveUp: return "give_up";
  }
  return "unknown";
}

v1::CompositionProgress Composition::progress() const {
  v1::CompositionProgress shown = progress_;
  shown.set_kind(subject_.kind);
  shown.set_key(subject_.key);
  *shown.mutable_service() = subject_.service;
  if (paused_ && shown.state() == "running") shown.set_state("paused");
  for (v1::StepProgress& step : *shown.mutable_steps()) {
    step.set_optional(is_optional(step.name()));
    step.set_skippable(shown.state() != "undoing" && shown.state() != "finished" &&
                       step.optional() && !is_over(step) && !skip_asked(step.name()));
  }
  return shown;
}

bool Composition::is_optional(std::string_view name) const {
  return std::ranges::find(optional_, name) != optional_.end();
}

bool Composition::skip_asked(std::string_view name) const {
  return std::ranges::find(skips_, name) != skips_.end();
}

void Composition::check(Command command, const v1::OperatorRequest& request) const {
  const auto needs = [](const char* field, const std::string& value) {
    if (value.empty())
      throw refusal(ErrorCode::kInvalidArgument, std::string{field} + " is required");
    require(check_text(field, value, kLongestText));
  };
  needs("actor", request.actor());
  needs("reason", request.reason());
  require(check_text("step", request.step(), kLongestText));
  const std::string& state = progress_.state();
  if (state == "undoing" || state == "finished" || given_up_) {
    throw refusal(ErrorCode::kConflict, std::string{to_string(command)} +
                                            " is not possible: the workflow is " +
                                            (state == "running" ? "given up" : state));
  }
  const v1::StepProgress* step = request.step().empty() ? nullptr : find(request.step());
  if (!request.step().empty() && step == nullptr)
    throw refusal(ErrorCode::kInvalidArgument, "step: there is no such step: " + request.step());
  switch (command) {
    case Command::kPause:
      if (paused_) throw refusal(ErrorCode::kConflict, "it is paused already");
      return;
    case Command::kResume:
      if (!paused_) throw refusal(ErrorCode::kConflict, "it is not paused");
      return;
    case Command::kRetry:
      if (running_.empty()) throw refusal(ErrorCode::kConflict, "no step is blocked or running");
      if (step != nullptr && step->name() != running_)
        throw refusal(ErrorCode::kConflict, "step: the one under way is " + running_);
      return;
    case Command::kSkip:
      needs("step", request.step());
      if (!is_optional(step->name()))
        throw refusal(ErrorCode::kIllegalTransition, "step is not optional: " + step->name());
      if (is_over(*step))
        throw refusal(ErrorCode::kConflict, "step is over: it is " + step->status());
      return;
    case Command::kGiveUp: return;
  }
}

void Composition::apply(Context& context, Command command, const v1::OperatorRequest& request) {
  const std::string by = request.actor().empty() ? "" : " by " + request.actor();
  switch (command) {
    case Command::kPause:
      paused_ = true;
      progress_.set_paused_by(request.actor());
      progress_.set_paused_reason(request.reason());
      progress_.set_paused_at(clock_text(context.now()));
      return;
    case Command::kResume:
      paused_ = false;
      progress_.clear_paused_by();
      progress_.clear_paused_reason();
      progress_.clear_paused_at();
      return;
    case Command::kRetry:
      retry_asked_ = true;
      if (current_) current_->cancel("retried" + by + ": " + request.reason());
      return;
    case Command::kSkip:
      skips_.push_back(request.step());
      for (v1::StepProgress* step : steps_named(request.step()))
        step->set_message("skipped" + by + ": " + request.reason());
      if (current_ && running_ == request.step()) current_->cancel("skipped" + by);
      return;
    case Command::kGiveUp:
      given_up_ = true;
      given_up_reason_ =
          "given up" + by + (request.reason().empty() ? "" : ": " + request.reason());
      progress_.set_given_up_by(request.actor());
      progress_.set_given_up_reason(request.reason());
      if (current_) current_->cancel(given_up_reason_);
      return;
  }
}

Task<v1::CompositionProgress> Composition::obey(Context& context, Command command,
                                                v1::OperatorRequest request) {
  check(command, request);
  apply(context, command, request);
  const std::string step = request.step().empty() ? "" : request.step() + ": ";
  const auto write = [this, &context, command, request, step] {
    return record(context, "composition " + std::string{to_string(command)}, request.actor(), "ok",
                  step + request.reason());
  };
  co_await context.shielded(write);
  co_return progress();
}

Task<void> Composition::obey_signal(Context& context, Command command,
                                    tempora::RawPayload payload) {
  v1::OperatorRequest request;
  std::optional<ApplicationError> refused;
  try {
    request = read(command, payload);
    // To give up is never refused: it may be the last thing that can be said.
    if (command != Command::kGiveUp) check(command, request);
    apply(context, command, request);
  } catch (const tempora::PayloadError& error) {
    refused = refusal(ErrorCode::kInvalidArgument, error.what());
  } catch (const Failure& failure) {
    refused = as_refusal(failure);
  }
  // The first release put no `give_up` on record: its histories have no such activity.
  if (command == Command::kGiveUp && !context.patched("give-up-on-record")) co_return;
  const std::string event = "composition " + std::string{to_string(command)};
  const std::string step = request.step().empty() ? "" : request.step() + ": ";
  const std::string detail = refused ? refused->message() : step + request.reason();
  const std::string actor = request.actor().empty() ? "signal" : request.actor();
  const auto write = [this, &context, event, detail, actor, refused] {
    return record(context, refused ? event + " refused" : event, actor,
                  refused ? refused->type() : "ok", detail);
  };
  co_await context.shielded(write);
}

Task<void> Composition::record(Context& context, std::string event, std::string actor,
                               std::string code, std::string detail) {
  // It may be said before the workflow has read whom it is about.
  const std::function<bool()> known = [this] { return !subject_.service.tenant_id().empty(); };
  co_await context.wait_until(known);
  v1::AuditRequest request;
  *request.mutable_service() = subject_.service;
  request.set_event(std::move(event));
  request.set_actor(std::move(actor));
  request.set_code(std::move(code));
  request.set_detail(context.info().workflow_id + ": " + detail);
  tempora::ActivityOptions options = pace_.ledger(subject_.service.tenant_id());
  options.schedule_to_close = std::chrono::minutes{1};  // a record is wanted, not at any price
  try {
    co_await context.execute(catalog::kAudit, request, options);
  } catch (const Failure& failure) {
    context.log().error("what an operator said could not be put on record: {}", failure.message());
  }
}

}  // namespace addrflow::workflows
