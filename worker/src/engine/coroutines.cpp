// The coroutines of a run: starting, stepping, ending.
#include <fmt/format.h>

#include <algorithm>
#include <tempora/failure.hpp>

#include "converter/time.hpp"
#include "engine/misuse.hpp"
#include "engine/run_state.hpp"
#include "interceptor/chain.hpp"
#include "machines/marker.hpp"

namespace tempora::engine {

using detail::Root;
using detail::Scheduler;

Task<void> RunState::main_coroutine(Task<Payload> main) { result_ = co_await main; }

void RunState::add_root(std::unique_ptr<Root> root) {
  scheduler_.push(nullptr, root.get());
  roots_.push_back(std::move(root));
}

void RunState::drain() {
  do {
    while (!scheduler_.idle()) step(scheduler_.pop());
  } while (touched_ && wake_one_condition());
  if (nondeterminism_.has_value()) throw TaskFailure{*nondeterminism_};
  // Earlier builds let it pass where it was caught: what they recorded goes on.
  if (replaying_) Misuse::forget();
  Misuse::rethrow();
  drop_idle_scopes();
}

// Those that nothing runs in any more. The newest first: it may hold the ones around it.
void RunState::drop_idle_scopes() {
  for (std::size_t i = nested_.size(); i-- > 0;) {
    if (nested_[i].scope->unique()) nested_.erase(nested_.begin() + static_cast<std::ptrdiff_t>(i));
  }
}

void RunState::step(Scheduler::Ready ready) {
  scheduler_.root = ready.root;
  scheduler_.root_done = false;
  std::coroutine_handle<> handle = ready.handle;
  if (!handle) {
    scheduler_.scope = ready.root->scope;
    if (ready.root->kind == RootKind::kUpdate && !start_update(*ready.root)) {
      std::erase_if(roots_, [&](const auto& root) { return root.get() == ready.root; });
      scheduler_.root = nullptr;
      scheduler_.scope = {};
      return;
    }
    handle = ready.root->task.handle();
  }
  // Where it waited before it ended is the nearest to a place that its end has.
  if (!ended_)
    terminal_where_ =
        ready.root->waiting_for != nullptr ? ready.root->waiting_for->where : ready.root->where;
  handle.resume();
  scheduler_.scope = {};
  scheduler_.root = nullptr;
  if (scheduler_.root_done) finish_root(ready.root);
}

// Validates (only live: on replay the acceptance is a fact), accepts, and makes the handler's
// coroutine, which then starts in the same step. False: rejected, and nothing has happened.
bool RunState::start_update(Root& root) {
  auto& update = static_cast<UpdateMachine&>(*root.subject);
  const Payloads& arguments = update.request().input().args();
  const auto found = definition_->updates.find(update.name());
  // Null: the one for all names.
  const auto* handler = found == definition_->updates.end() ? nullptr : &found->second;
  if (handler == nullptr && !definition_->dynamic_update.start) {
    if (update.replayed()) {
      ReplayError error;
      error.nondeterminism = true;
      error.event_id = closing_->event_id() + 1;
      error.event_type = "WorkflowExecutionUpdateAccepted";
      error.workflow_type = info_.workflow_type;
      error.message = fmt::format(
          "[TMPRL1100] nondeterministic workflow: the history accepted update \"{}\", the code has "
          "no handler for it, "
          "workflow type \"{}\"",
          update.name(), info_.workflow_type);
      throw TaskFailure{std::move(error)};
    }
    std::vector<std::string> known;
    for (const auto& [name, each] : definition_->updates) known.push_back(name);
    update.reject(ApplicationError{
        fmt::format("unknown update {}; known: {}", update.name(), fmt::join(known, ", ")),
        "UnknownUpdate", true}
                      .proto());
    return false;
  }
  const auto call = [&] {
    return InboundCall{.kind = InboundCall::Kind::kUpdate,
                       .name = update.name(),
                       .headers = detail::read_headers(update.request().input().header()),
                       .input = arguments};
  };
  if (!update.replayed()) {
    scheduler_.read_only = true;
    try {
      update.check_acceptance();
      if (interceptors_.empty()) {
        validate_update(handler, update.name(), arguments);
      } else {
        detail::validate_through(interceptors_, 0, context_, call(), [&](const InboundCall& its) {
          validate_update(handler, its.name, its.input);
        });
      }
      Misuse::rethrow();
    } catch (...) {
      scheduler_.read_only = false;
      Misuse::forget();  // it rejected the update, and does not fail the task
      update.reject(to_proto(std::current_exception()));
      return false;
    }
    scheduler_.read_only = false;
  }
  touch();
  count_given(arguments);
  root.where = handler != nullptr ? handler->where : definition_->dynamic_update.where;
  update.accept(root.where);
  ++handlers_running_;
  root.task = [](Task<Payload> user, detail::Ref<UpdateMachine> machine)
      -> Task<void> {
    // Arguments by value: the lambda itself captures nothing.
    try {
      const Payload result = co_await user;
      machine->complete(result);
    } catch (const Failure& failure) {
      machine->fail(failure.proto());
    }
  }(detail::through(interceptors_, 0, context_, call(),
                    [this, handler](const InboundCall& its) {
                      return handler != nullptr
                                 ? handler->start(workflow_.get(), context_, its.input)
                                 : definition_->dynamic_update.start(workflow_.get(), context_,
                                                                     its.name, its.input);
                    }),
      detail::Ref<UpdateMachine>{&update});
  return true;
}

void RunState::validate_update(const WorkflowDefinition::Update* handler, const std::string& name,
                               const Payloads& input) const {
  if (handler != nullptr) return handler->validate(workflow_.get(), input);
  definition_->dynamic_update.validate(workflow_.get(), name, input);
}

void RunState::finish_root(Root* root) {
  const auto place =
      std::ranges::find_if(roots_, [&](const auto& candidate) { return candidate.get() == root; });
  const std::unique_ptr<Root> done = std::move(*place);
  roots_.erase(place);
  if (done->kind == RootKind::kSignal || done->kind == RootKind::kUpdate) --handlers_running_;
  const std::exception_ptr error = done->task.handle().promise().error();
  if (done->kind == RootKind::kSpawned) {
    done->task = {};  // its frame holds the future too
    if (static_cast<const SpawnedTask&>(*done->subject).failed_unseen()) {
      logger().warn("the task spawned at {}:{} failed and nobody awaits it",
                    done->where.file_name(), done->where.line());
    }
  }
  if (error) {
    end_with_failure(error);
  } else if (done->kind == RootKind::kMain) {
    auto command = make_command(enums::COMMAND_TYPE_COMPLETE_WORKFLOW_EXECUTION);
    if (command) {
      *command->mutable_complete_workflow_execution_command_attributes()
           ->mutable_result()
           ->add_payloads() = std::move(result_);
    }
    end_with(enums::COMMAND_TYPE_COMPLETE_WORKFLOW_EXECUTION, std::move(command));
  }
}

// A failure ends the workflow, a request to continue as new ends the run, anything else is a bug:
// it leaves as it is and fails the task.
void RunState::end_with_failure(const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const ContinueAsNewRequest& request) {
    continue_as_new(request);
  } catch (const Failure& failure) {
    const bool cancelled = cancel_requested_ && is_cancellation(failure);
    const auto type = cancelled ? enums::COMMAND_TYPE_CANCEL_WORKFLOW_EXECUTION
                                : enums::COMMAND_TYPE_FAIL_WORKFLOW_EXECUTION;
    auto command = make_command(type);
    if (command && cancelled) {
      command->mutable_cancel_workflow_execution_command_attributes();
    } else if (command) {
      *command->mutable_fail_workflow_execution_command_attributes()->mutable_failure() =
          failure.proto();
    }
    end_with(type, std::move(command));
  }
}

void RunState::continue_as_new(const ContinueAsNewRequest& request) {
  const std::string& type =
      request.options.workflow_type.empty() ? info_.workflow_type : request.options.workflow_type;
  const Headers headers = outbound(OutboundCall::Kind::kContinueAsNew, type);
  auto command = make_command(enums::COMMAND_TYPE_CONTINUE_AS_NEW_WORKFLOW_EXECUTION);
  if (command) {
    auto& next = *command->mutable_continue_as_new_workflow_execution_command_attributes();
    const ContinueAsNewOptions& options = request.options;
    next.mutable_workflow_type()->set_name(type);
    next.mutable_task_queue()->set_name(options.task_queue.empty() ? info_.task_queue
                                                                   : options.task_queue);
    *next.mutable_input() = request.arguments;
    if (!headers.empty()) detail::write_headers(headers, next.mutable_header());
    const Duration run_timeout =
        options.run_timeout > Duration{} ? options.run_timeout : info_.run_timeout;
    const Duration task_timeout =
        options.task_timeout > Duration{} ? options.task_timeout : info_.task_timeout;
    if (run_timeout > Duration{}) write(run_timeout, next.mutable_workflow_run_timeout());
    if (task_timeout > Duration{}) write(task_timeout, next.mutable_workflow_task_timeout());
    if (retry_policy_) *next.mutable_retry_policy() = *retry_policy_;
    // Nothing carries over by itself.
    for (const auto& [name, payload] : info_.memo)
      (*next.mutable_memo()->mutable_fields())[name] = payload;
    for (const auto& [name, payload] : info_.search_attributes.fields()) {
      if (name.starts_with("Temporal") || name == "BuildIds") continue;  // the server's own
      (*next.mutable_search_attributes()->mutable_indexed_fields())[name] = payload;
    }
  }
  end_with(enums::COMMAND_TYPE_CONTINUE_AS_NEW_WORKFLOW_EXECUTION, std::move(command));
}

// The first end wins; it is sent behind everything else of the activation.
void RunState::end_with(enums::CommandType type, std::unique_ptr<Command> command) {
  if (ended_) return;
  ended_ = true;
  if (!command) {
    command = std::make_unique<Command>();
    command->set_command_type(type);
  }
  terminal_ = std::move(command);
}

Headers RunState::outbound(OutboundCall::Kind kind, const std::string& name) {
  if (interceptors_.empty()) return {};
  OutboundCall call{.kind = kind, .name = name, .headers = {}};
  for (const auto& interceptor : interceptors_) interceptor->outbound(context_, call);
  return std::move(call.headers);
}

Task<Payload> RunState::intercepted(InboundCall::Kind kind, const std::string& name,
                                    Headers headers, const Payloads& input,
                                    WorkflowInterceptor::Next start) {
  InboundCall call{.kind = kind, .name = name, .headers = std::move(headers), .input = input};
  return detail::through(interceptors_, 0, context_, std::move(call), std::move(start));
}

Task<void> RunState::intercepted_signal(const std::string& name, Headers headers,
                                        const Payloads& input, const StartSignal& start) {
  if (interceptors_.empty()) return start(input);
  // Arguments by value: the lambdas themselves capture nothing that a suspended frame needs.
  const auto for_payload = [](Task<void> user) -> Task<Payload> {
    co_await user;
    co_return detail::null_payload();
  };
  const auto nothing = []() -> Task<Payload> { co_return detail::null_payload(); };
  return [](Task<Payload> user) -> Task<void> {
    co_await user;
  }(intercepted(InboundCall::Kind::kSignal, name, std::move(headers), input,
                                [this, name, start, for_payload, nothing](InboundCall call) {
                                  try {
                                    return for_payload(start(call.input));
                                  } catch (const PayloadError& error) {
                                    if (!drop_signal(name, call.input, error)) throw;
                                    return nothing();
                                  }
                                }));
}

bool RunState::wake_one_condition() {
  for (detail::ListHook* hook = conditions_.next; hook != &conditions_; hook = hook->next) {
    ConditionState& state = *static_cast<ConditionState::Node*>(hook)->owner;
    if (!holds(*state.condition)) continue;
    state.node.unlink();
    state.fulfil();
    return true;
  }
  return false;
}

bool RunState::holds(const std::function<bool()>& condition) {
  const bool before = std::exchange(scheduler_.read_only, true);
  try {
    const bool result = condition();
    scheduler_.read_only = before;
    return result;
  } catch (...) {
    scheduler_.read_only = before;
    throw;
  }
}

void RunState::seal_activation() {
  if (terminal_) {
    const enums::CommandType type = terminal_->command_type();
    queue(type, new TerminalMachine{*this}, sends_commands() ? std::move(terminal_) : nullptr,
          terminal_where_);
    terminal_ = {};
  }
  if (sends_commands()) return;  // `collect` takes them
  for (Outgoing& outgoing : outgoing_) outgoing.sent = true;
}

}  // namespace tempora::engine
