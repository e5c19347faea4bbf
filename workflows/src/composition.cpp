#include "composition.hpp"

#include "clock_text.hpp"
#include "failures.hpp"

#include <addrflow/domain/ids.hpp>
#include <algorithm>
#include <cctype>

namespace addrflow::workflows {
namespace {

using domain::ErrorCode;
using tempora::ApplicationError;
using tempora::Failure;

constexpr int kMostClaims = 16;  // looks at who has the service before a composition gives way
constexpr int kFewAttempts = 3;  // of a step's update before the step is called blocked
constexpr int kManyAttempts = 30;
constexpr std::chrono::seconds kFirstLook{20};  // each of the few attempts, so that a hang shows

std::string upper(std::string text) {
  std::ranges::transform(text, text.begin(),
                         [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  return text;
}

bool is_time_out(const Failure& failure) {
  const Failure* innermost = &failure;
  while (innermost->cause() != nullptr) innermost = innermost->cause();
  return dynamic_cast<const tempora::TimeoutError*>(innermost) != nullptr;
}

// What stands in the way, for a person.
std::string trouble(const Failure& failure) {
  return is_time_out(failure) ? "the line's own workflow has not answered: it is still at it"
                              : as_refusal(failure).message();
}

}  // namespace

Composition::Composition(const std::vector<std::string>& steps) {
  progress_.set_state("running");
  set_steps(steps);
}

void Composition::set_steps(const std::vector<std::string>& steps) {
  progress_.clear_steps();
  for (const std::string& name : steps) {
    v1::StepProgress* step = progress_.add_steps();
    step->set_name(name);
    step->set_status("waiting");
  }
}

// Of another run, which did the work.
void Composition::show_steps(const v1::CompositionResult& result) {
  progress_.clear_steps();
  for (const v1::Step& done : result.steps()) {
    v1::StepProgress* step = progress_.add_steps();
    step->set_name(done.name());
    step->set_status(done.status());
    step->set_message(done.message());
  }
}

void Composition::throw_if_given_up() const {
  if (given_up_) throw refusal(ErrorCode::kGaveUp, given_up_reason_);
}

Task<v1::CompositionResult> Composition::carry_out(Context& context, Subject subject) {
  subject_ = std::move(subject);
  context_ = &context;
  const Claimed claimed = co_await claim(context);
  if (!claimed.mine) {
    progress_.set_state("finished");
    show_steps(claimed.result);
    if (!claimed.result.success()) throw_result(claimed.result);
    co_return claimed.result;
  }
  std::optional<ApplicationError> failed;
  bool cancelled = false;
  try {
    throw_if_given_up();
    co_await perform(context);
  } catch (const Failure& failure) {
    cancelled = tempora::is_cancellation(failure);
    failed = cancelled ? refusal(ErrorCode::kGaveUp, "cancelled") : as_refusal(failure);
  }
  result_.set_success(!failed);
  result_.set_code(failed ? failed->type() : "ok");
  result_.set_message(failed ? failed->message() : "done");
  if (failed) {
    progress_.set_state("undoing");
    const auto undo = [this, &context, reason = failed->message()] {
      return take_back(context, reason);
    };
    try {
      co_await context.shielded(undo);
    } catch (const Failure& failure) {
      result_.set_message(result_.message() +
                          "; the undo failed too: " + as_refusal(failure).message());
    }
    if (!stays_.empty()) result_.set_message(result_.message() + "; " + stays_);
  }
  for (const v1::StepProgress& done : progress_.steps()) {
    v1::Step* step = result_.add_steps();
    step->set_name(done.name());
    step->set_status(done.status());
    step->set_message(done.message());
  }
  const auto last = [this, &context]() -> Task<void> {
    co_await finish(context, result_);
    progress_.set_state("finished");
    // What an operator said last is put on record too.
    const std::function<bool()> said = [&context] { return context.all_handlers_finished(); };
    co_await context.wait_until(said);
  };
  co_await context.shielded(last);
  if (cancelled) {
    const bool undone = result_.message() == failed->message();
    throw tempora::CanceledError{undone ? "cancelled, and what it had begun is undone"
                                        : result_.message()};
  }
  if (failed) throw_result(result_);
  co_return result_;
}

Task<v1::CompositionResult> Composition::plan(Context& context, v1::PlanRequest request) {
  const tempora::ActivityOptions options = Pace{}.plan(request.service().tenant_id());
  v1::PlanReply planned;
  try {
    planned = co_await context.execute(catalog::kPlan, request, options);
  } catch (const Failure& failure) {
    throw as_refusal(failure);
  }
  progress_.set_state("finished");
  result_.set_success(planned.result().success());
  result_.set_code(planned.result().code());
  result_.set_message(planned.result().message());
  *result_.mutable_result() = planned.result();
  fill_context(planned.result());
  co_return result_;
}

Task<void> Composition::take_back(Context&, std::string) { co_return; }

Task<Composition::Claimed> Composition::claim(Context& context) {
  v1::ComposeClaimRequest request;
  *request.mutable_service() = subject_.service;
  request.set_kind(subject_.kind);
  request.set_key(subject_.key);
  request.set_request_hash(subject_.request_hash);
  request.set_workflow_id(context.info().workflow_id);
  request.set_run_id(context.info().run_id);
  const std::string tenant = subject_.service.tenant_id();
  for (int i = 0; i < kMostClaims; ++i) {
    v1::ComposeClaimReply reply;
    try {
      reply = co_await context.execute(catalog::kComposeClaim, request, pace_.ledger(tenant));
    } catch (const Failure& failure) {
      if (tempora::is_cancellation(failure)) throw;
      throw as_refusal(failure);
    }
    if (reply.has_pace()) pace_ = Pace{reply.pace()};
    if (i == 0) show(context);
    view_ = reply.view();
    if (reply.outcome() == "claimed") co_return Claimed{.mine = true, .result = {}};
    if (reply.outcome() == "recorded") co_return Claimed{.mine = false, .result = reply.result()};

    v1::ComposeWaitRequest wait;
    wait.set_workflow_id(reply.workflow_id());
    wait.set_run_id(reply.run_id());
    wait.set_give_up(reply.outcome() == "preempt");
    wait.set_look_only(reply.outcome() == "busy");
    const v1::ComposeWaitReply other =
        co_await context.execute(catalog::kComposeWait, wait, pace_.compose(tenant));
    if (reply.outcome() == "join" && other.has_result()) {
      Claimed joined{.mine = false, .result = other.result()};
      joined.result.set_joined_workflow_id(reply.workflow_id());
      co_return joined;
    }
    if (!other.closed()) {
      throw refusal(ErrorCode::kConflict,
                    "another request for this service is under way: " + reply.workflow_id());
    }
    // It is closed without having said so in the ledger (terminated, say): its claim may be taken
    // over.
    request.set_take_over_from(reply.run_id());
  }
  throw refusal(ErrorCode::kConflict, "other requests for this service keep coming first");
}

// A start with plain JSON carries no search attributes.
void Composition::show(Context& context) const {
  if (!pace_.search_attributes()) return;
  tempora::SearchAttributes shown;
  shown.set_keyword("AddrflowTenant", subject_.service.tenant_id())
      .set_keyword("AddrflowSubscriber", subject_.service.subscriber_id())
      .set_keyword("AddrflowService", subject_.service.service());
  context.upsert_search_attributes(shown);
}

Task<void> Composition::finish(Context& context, v1::CompositionResult result) {
  v1::ComposeFinishRequest request;
  *request.mutable_service() = subject_.service;
  request.set_key(subject_.key);
  request.set_run_id(context.info().run_id);
  *request.mutable_result() = std::move(result);
  co_await context.execute(catalog::kComposeFinish, request,
                           pace_.ledger(subject_.service.tenant_id()));
}

Task<bool> Composition::begin(Context& context, std::string name) {
  throw_if_given_up();
  const std::function<bool()> may_go = [this] { return !paused_ || given_up_; };
  co_await context.wait_until(may_go);
  throw_if_given_up();
  if (skip_asked(name)) {
    mark(name, "skipped", find(name)->message());
    co_return false;
  }
  mark(name, "running");
  co_return true;
}

Task<Composition::Tried> Composition::attempt(Context& context, std::string name,
                                              v1::ComposeUpdateRequest request) {
  Tried tried;
  running_ = name;
  retry_asked_ = false;
  tempora::ActivityOptions options = pace_.compose(subject_.service.tenant_id());
  // Few and short at first, so that trouble shows soon; then many, so that it fills no history.
  const bool first = find(name)->attempts() == 1;
  options.retry->maximum_attempts = first ? kFewAttempts : kManyAttempts;
  if (first)
    options.start_to_close = std::min<tempora::Duration>(options.start_to_close, kFirstLook);
  current_ = context.start(catalog::kComposeUpdate, request, options);
  try {
    tried.reply = co_await *current_;
  } catch (const Failure& failure) {
    tried.failed = std::current_exception();
    tried.why = trouble(failure);
    const auto* error = tempora::find_application_error(failure);
    const auto code = error == nullptr ? std::nullopt : domain::parse_error_code(error->type());
    tried.passing = !tempora::is_cancellation(failure) &&
                    (error == nullptr || (code && domain::retryable(*code)));
    if (retry_asked_ && tempora::is_cancellation(failure)) tried.passing = !given_up_;
  }
  current_.reset();
  running_.clear();
  co_return tried;
}

// Until a pause between attempts is over, or an operator has said what to do.
Task<void> Composition::wait_for_another_attempt(Context& context, std::string name, int attempt) {
  running_ = name;
  const std::function<bool()> told = [this, name] {
    return retry_asked_ || given_up_ || skip_asked(name);
  };
  co_await context.wait_until(told, pace_.effect_retry(attempt));
  retry_asked_ = false;
  running_.clear();
}

Task<v1::LifecycleResult> Composition::step(Context& context, std::string name,
                                            v1::ComposeUpdateRequest request) {
  Tried tried;
  for (;;) {
    if (!co_await begin(context, name)) {
      v1::LifecycleResult skipped;
      skipped.set_code("skipped");
      co_return skipped;
    }
    tried = co_await attempt(context, name, request);
    if (!tried.failed) break;
    // What was sent to be skipped may have happened; an undo looks at that.
    if (skip_asked(name)) continue;
    if (!tried.passing || given_up_) {
      mark(name, "failed", tried.why);
      throw_if_given_up();  // it is why the step was cancelled
      std::rethrow_exception(tried.failed);
    }
    mark(name, "blocked", tried.why);
    co_await wait_for_another_attempt(context, name, find(name)->attempts());
    if (given_up_) mark(name, "failed", tried.why);  // it may have happened
  }
  const v1::LifecycleResult& result = tried.reply.result();
  if (!result.success()) {
    mark(name, "refused", result.message());
    const auto code = domain::parse_error_code(result.code());
    throw refusal(code.value_or(ErrorCode::kInternal), result.message());
  }
  mark(name, "done", result.enforcement() == "pending" ? result.message() : "");
  *result_.mutable_result() = result;
  fill_context(result);
  throw_if_given_up();
  co_return result;
}

Task<v1::LifecycleResult> Composition::undo_step(Context& context,
                                                 v1::ComposeUpdateRequest request) {
  const v1::ComposeUpdateReply reply = co_await context.execute(
      catalog::kComposeUpdate, request, pace_.compose(subject_.service.tenant_id()));
  if (!reply.result().success()) {
    throw refusal(domain::parse_error_code(reply.result().code()).value_or(ErrorCode::kInternal),
                  reply.result().message());
  }
  for (v1::StepProgress& step : *progress_.mutable_steps()) {
    if (step.status() == "done" || step.status() == "failed") step.set_status("undone");
    if (step.status() == "waiting") step.set_status("skipped");
  }
  *result_.mutable_result() = reply.result();
  result_.clear_context();
  co_return reply.result();
}

void Composition::stays(const std::string& what) { stays_ += (stays_.empty() ? "" : ", ") + what; }

void Composition::not_undone(std::string_view name, std::string_view status,
                             const std::string& why) {
  for (v1::StepProgress& step : *progress_.mutable_steps()) {
    if (step.name() != name || step.status() != "undone") continue;
    step.set_status(std::string{status});
    step.set_message(why);
  }
}

v1::ComposeUpdateRequest Composition::request_for(domain::Operation operation,
                                                  std::string_view step) const {
  v1::ComposeUpdateRequest request;
  *request.mutable_service() = subject_.service;
  request.set_operation(std::string{domain::to_string(operation)});
  request.set_update_id(domain::update_id(operation, domain::step_key(subject_.key, step)));
  return request;
}

v1::Caller Composition::caller_for(std::string_view step, std::string reason) const {
  v1::Caller caller;
  caller.set_key(domain::step_key(subject_.key, step));
  caller.set_actor(subject_.actor);
  caller.set_reason(std::move(reason));
  return caller;
}

void Composition::together(const std::string& leader, const std::string& follower) {
  if (leader != follower) followers_[leader] = follower;
}

std::vector<v1::StepProgress*> Composition::steps_named(std::string_view name) {
  std::vector<v1::StepProgress*> named;
  const auto follower = followers_.find(std::string{name});
  for (v1::StepProgress& step : *progress_.mutable_steps()) {
    const bool follows = follower != followers_.end() && step.name() == follower->second;
    if (step.name() == name || follows) named.push_back(&step);
  }
  return named;
}

const v1::StepProgress* Composition::find(std::string_view name) const {
  const auto found = std::ranges::find(progress_.steps(), name, &v1::StepProgress::name);
  return found == progress_.steps().end() ? nullptr : &*found;
}

void Composition::make_optional(std::string_view name) { optional_.emplace_back(name); }

void Composition::mark(std::string_view name, std::string_view status, std::string message) {
  for (v1::StepProgress* step : steps_named(name)) {
    step->set_status(std::string{status});
    step->set_message(message);
    if (status == "running") {
      if (!step->has_started_at()) step->set_started_at(clock_text(context_->now()));
      step->set_attempts(step->attempts() + 1);
    } else if (status == "blocked" || status == "failed" || status == "refused") {
      step->set_last_error(message);
    }
    if (status != "running" && status != "blocked") step->set_ended_at(clock_text(context_->now()));
  }
}

bool Composition::maybe_done(std::string_view name) const {
  const v1::StepProgress* step = find(name);
  return step != nullptr && step->attempts() > 0 && step->status() != "refused";
}

void Composition::fill_context(const v1::LifecycleResult& last) {
  v1::ProvisionContext& shown = *result_.mutable_context();
  if (last.service_view().bindings().empty()) {
    shown.set_ipv4_address(last.address());
    shown.set_ipv4_lifecycle_state(upper(last.state()));
    return;
  }
  for (const v1::BindingView& binding : last.service_view().bindings()) {
    if (binding.family() == domain::kFamilyIpv4) {
      shown.set_ipv4_address(binding.address());
      shown.set_ipv4_lifecycle_state(upper(binding.state()));
    }
    if (binding.family() == domain::kFamilyIpv6Pd) {
      shown.set_ipv6_prefix(binding.prefix());
      shown.set_ipv6_lifecycle_state(upper(binding.state()));
    }
  }
}

void throw_result(const v1::CompositionResult& result) {
  throw ApplicationError{result.message(), result.code(), true, result};
}

}  // namespace addrflow::workflows
