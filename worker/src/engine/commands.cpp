// What the context and the machines ask of a run, and what a task's answer is made of.
#include <fmt/format.h>
#include <google/protobuf/util/json_util.h>
#include <temporal/api/sdk/v1/workflow_metadata.pb.h>

#include <algorithm>
#include <tempora/failure.hpp>

#include "converter/too_large.hpp"
#include "engine/misuse.hpp"
#include "engine/place.hpp"
#include "engine/run_state.hpp"
#include "interceptor/chain.hpp"
#include "machines/activity.hpp"
#include "machines/child.hpp"
#include "machines/external.hpp"
#include "machines/local_activity.hpp"
#include "machines/marker.hpp"
#include "machines/nexus.hpp"
#include "machines/timer.hpp"

namespace tempora::engine {
namespace {

constexpr std::size_t kChangeVersionLimitBytes =
    2048;  // of the search attribute's value, as the official SDKs have it

std::size_t memo_bytes(const std::map<std::string, Payload>& fields) {
  temporal::api::common::v1::Memo memo;
  for (const auto& [name, payload] : fields) (*memo.mutable_fields())[name] = payload;
  return memo.ByteSizeLong();
}

}  // namespace

Logger RunState::logger() const {
  if (replaying_) return {};
  return options_.logger.with("WorkflowType", info_.workflow_type)
      .with("WorkflowID", info_.workflow_id)
      .with("RunID", info_.run_id);
}

bool RunState::may_command(const char* what) const {
  if (scheduler_.evicting) return false;
  if (detail::Scheduler::current() != &scheduler_) {
    Misuse::raise(fmt::format("{}: called from outside the workflow", what));
  }
  if (scheduler_.read_only)
    Misuse::raise(fmt::format("{}: a query, validator or condition must change nothing", what));
  return true;
}

bool RunState::enter_scope(detail::FutureState& future, const char* what, SourceLocation where) {
  future.what = what;
  future.where = where;
  Place::of_this_thread().set(what, where);
  detail::ScopeState& scope = scheduler_.scope ? *scheduler_.scope : *root_scope_;
  if (scope.cancelled()) {
    future.fail(std::make_exception_ptr(CanceledError{scope.reason()}));
    return false;
  }
  scope.add(future);
  return true;
}

detail::Ref<detail::ScopeState> RunState::nested_scope(detail::ScopeState& parent, bool shielded) {
  auto scope = detail::ScopeState::inside(parent, shielded);
  if (!shielded && &parent != root_scope_.get()) nested_.push_back({scope, &parent});
  return scope;
}

void RunState::schedule_activity(const detail::Ref<detail::FutureState>& future,
                                 const std::string& type, const ActivityOptions& options,
                                 Payloads input, SourceLocation where) {
  if (options.start_to_close <= Duration{} && options.schedule_to_close <= Duration{}) {
    Misuse::raise(fmt::format("activity {}: set start_to_close or schedule_to_close", type));
  }
  if (!enter_scope(*future, "activity", where)) return;
  std::string id =
      options.activity_id.empty() ? std::to_string(++activity_counter_) : options.activity_id;
  auto machine = detail::make_ref<ActivityMachine>(
      *this, future, std::move(id), type,
      options.cancellation.value_or(CancellationType::kTryCancel), where);
  machine->schedule(options, std::move(input));
}

void RunState::start_local_activity(const detail::Ref<detail::FutureState>& future,
                                    const std::string& type, const ActivityOptions& defaults,
                                    const LocalActivityOptions& options, Payloads input,
                                    SourceLocation where) {
  LocalRequest request;
  request.activity_type = type;
  request.input = std::move(input);
  const auto or_default = [](Duration wanted, Duration plain) {
    return wanted > Duration{} ? wanted : plain;
  };
  request.schedule_to_close = or_default(options.schedule_to_close, defaults.schedule_to_close);
  request.start_to_close = or_default(options.start_to_close, defaults.start_to_close);
  if (request.start_to_close <= Duration{} && request.schedule_to_close <= Duration{}) {
    Misuse::raise(fmt::format("local activity {}: set start_to_close or schedule_to_close", type));
  }
  request.retry = options.retry ? *options.retry : defaults.retry.value_or(RetryPolicy{});
  request.local_retry_threshold = options.local_retry_threshold;
  request.scheduled_time = now_;
  if (!enter_scope(*future, "local activity", where)) return;
  request.headers = outbound(OutboundCall::Kind::kLocalActivity, type);
  const CancellationType cancellation =
      options.cancellation.value_or(defaults.cancellation.value_or(CancellationType::kTryCancel));
  detail::make_ref<LocalActivityMachine>(*this, future, std::move(request), cancellation,
                                         options.summary, where)
      ->start();
}

// Numbered with the other activities, so that an id names one thing in a run.
void RunState::add_local(LocalActivityMachine& machine, LocalRequest& request) {
  request.seq = ++activity_counter_;
  request.activity_id = std::to_string(request.seq);
  locals_.emplace_back(&machine);
}

void RunState::forget_local(const LocalActivityMachine& machine) {
  std::erase_if(locals_, [&](const auto& local) { return local.get() == &machine; });
}

std::string RunState::start_child(const detail::Ref<detail::ValueState<std::string>>& started,
                                  const detail::Ref<detail::FutureState>& result,
                                  const NamedHere& type, ChildWorkflowOptions options,
                                  Payloads input) {
  started->what = "start of a child";
  started->where = type.where;
  if (!enter_scope(*result, "child workflow", type.where)) {
    started->fail(result->failure());
    return std::move(options.id);
  }
  if (options.id.empty()) options.id = uuid();
  auto machine = detail::make_ref<ChildMachine>(
      *this, started, result, options.id, std::string{type.name}, options.cancellation, type.where);
  machine->start(options, std::move(input));
  return std::move(options.id);
}

void RunState::signal_workflow(const detail::Ref<detail::FutureState>& future,
                               const detail::WorkflowTarget& target, const NamedHere& signal,
                               Payloads input) {
  if (!enter_scope(*future, "signal to another workflow", signal.where)) return;
  auto machine = detail::make_ref<SignalExternalMachine>(*this, future, target,
                                                         std::string{signal.name}, signal.where);
  machine->send(std::move(input));
}

// In no scope: it is what one does when one is cancelled oneself.
void RunState::cancel_workflow(const detail::Ref<detail::FutureState>& future,
                               const detail::WorkflowTarget& target, const std::string& reason,
                               SourceLocation where) {
  future->what = "cancellation of another workflow";
  future->where = where;
  detail::make_ref<CancelExternalMachine>(*this, future, target, where)->send(reason);
}

void RunState::start_nexus(const detail::Ref<detail::ValueState<std::string>>& started,
                           const detail::Ref<detail::FutureState>& result,
                           detail::NexusRequest request) {
  const auto need = [](const std::string& name, const char* what) {
    if (name.empty()) Misuse::raise(fmt::format("Nexus operation: {} is empty", what));
  };
  need(request.endpoint, "the endpoint's name");
  need(request.service, "the service's name");
  need(request.operation, "the operation's name");
  started->what = "start of a Nexus operation";
  started->where = request.where;
  if (!enter_scope(*result, "Nexus operation", request.where)) {
    started->fail(result->failure());
    return;
  }
  auto machine = detail::make_ref<NexusMachine>(*this, started, result, request);
  machine->schedule(std::move(request));
}

void RunState::start_timer(const detail::Ref<detail::FutureState>& future, Duration duration,
                           const std::string& summary, SourceLocation where) {
  if (!enter_scope(*future, "timer", where)) return;
  if (duration <= Duration{}) {
    future->fulfil();
    return;
  }
  auto machine =
      detail::make_ref<TimerMachine>(*this, future, std::to_string(++timer_counter_), where);
  machine->start(duration, summary);
}

void RunState::spawn(const detail::Ref<detail::FutureState>& future, Task<void> task,
                     SourceLocation where) {
  future->what = "spawned task";
  future->where = where;
  auto root = std::make_unique<detail::Root>();
  root->kind = RootKind::kSpawned;
  root->where = where;
  root->task = std::move(task);
  detail::ScopeState& parent = scheduler_.scope ? *scheduler_.scope : *root_scope_;
  root->scope = nested_scope(parent, /*shielded=*/false);
  root->subject = detail::make_ref<SpawnedTask>(future, root->scope);
  add_root(std::move(root));
}

detail::Ref<ConditionState> RunState::watch(const std::function<bool()>& condition,
                                            SourceLocation where) {
  auto state = detail::make_ref<ConditionState>();
  if (enter_scope(*state, "condition", where)) {
    state->condition = &condition;
    conditions_.push_back(state->node);
  }
  return state;
}

bool RunState::patched(std::string_view id, bool deprecated, SourceLocation where) {
  if (const auto known = patch_answers_.find(id); known != patch_answers_.end())
    return known->second;
  const auto recorded = known_patches_.find(id);
  const bool answer = !replaying_ || recorded != known_patches_.end();
  patch_answers_.emplace(id, answer);
  if (!answer) return false;
  // A marker of an earlier task stands in the history already (its call is gone from the code,
  // say).
  const bool is_new = recorded == known_patches_.end();
  if (!is_new && (closing_ == nullptr || recorded->second.closing_event_id != closing_->event_id()))
    return true;

  detail::make_ref<PatchMachine>(*this, std::string{id})->record(deprecated, where);
  change_versions_.insert(std::ranges::upper_bound(change_versions_, id), std::string{id});
  SearchAttributes attributes;
  attributes.set_keyword_list(kChangeVersion, change_versions_);
  const bool upsert =
      is_new ? attributes.fields().at(kChangeVersion).data().size() <= kChangeVersionLimitBytes
             : recorded->second.upserted;
  if (upsert) {
    auto command = make_command(enums::COMMAND_TYPE_UPSERT_WORKFLOW_SEARCH_ATTRIBUTES);
    if (command) {
      attributes.write(command->mutable_upsert_workflow_search_attributes_command_attributes()
                           ->mutable_search_attributes());
      note_search_attributes();
    }
    queue(enums::COMMAND_TYPE_UPSERT_WORKFLOW_SEARCH_ATTRIBUTES, new UpsertMachine{*this},
          std::move(command), where);
  }
  return true;
}

void RunState::upsert_search_attributes(const SearchAttributes& changes, SourceLocation where) {
  info_.search_attributes.apply(changes);
  auto command = make_command(enums::COMMAND_TYPE_UPSERT_WORKFLOW_SEARCH_ATTRIBUTES);
  if (command) {
    changes.write(command->mutable_upsert_workflow_search_attributes_command_attributes()
                      ->mutable_search_attributes());
    note_search_attributes();
  }
  queue(enums::COMMAND_TYPE_UPSERT_WORKFLOW_SEARCH_ATTRIBUTES, new UpsertMachine{*this},
        std::move(command), where);
}

// What the server has after an upsert that is sent now.
void RunState::note_search_attributes() {
  SearchAttributes all = info_.search_attributes;
  SearchAttributes versions;
  versions.set_keyword_list(kChangeVersion, change_versions_);
  const bool recorded =
      !change_versions_.empty() &&
      versions.fields().at(kChangeVersion).data().size() <= kChangeVersionLimitBytes;
  if (recorded) all.apply(versions);
  temporal::api::common::v1::SearchAttributes proto;
  all.write(&proto);
  most_search_attributes_bytes_ = std::max(most_search_attributes_bytes_, proto.ByteSizeLong());
}

void RunState::upsert_memo(const std::map<std::string, Payload>& changes, SourceLocation where) {
  auto command = make_command(enums::COMMAND_TYPE_MODIFY_WORKFLOW_PROPERTIES);
  for (const auto& [name, payload] : changes) {
    if (detail::encoding_of(payload) == "binary/null") {
      info_.memo.erase(name);
    } else {
      info_.memo.insert_or_assign(name, payload);
    }
    if (command) {
      (*command->mutable_modify_workflow_properties_command_attributes()
            ->mutable_upserted_memo()
            ->mutable_fields())[name] = payload;
    }
  }
  if (command) most_memo_bytes_ = std::max(most_memo_bytes_, memo_bytes(info_.memo));
  queue(enums::COMMAND_TYPE_MODIFY_WORKFLOW_PROPERTIES, new UpsertMachine{*this},
        std::move(command), where);
}

Payload RunState::side_effect(const std::function<Payload()>& function, SourceLocation where) {
  const std::uint64_t number = ++side_effect_counter_;
  Payload value;
  if (!replaying_) {
    // Nothing that it does may become part of the workflow.
    scheduler_.read_only = true;
    try {
      value = function();
    } catch (...) {
      scheduler_.read_only = false;
      throw;
    }
    scheduler_.read_only = false;
  } else if (const auto known = known_side_effects_.find(number);
             known != known_side_effects_.end()) {
    value = known->second;
  } else {
    ReplayError error;
    error.nondeterminism = true;
    error.workflow_type = info_.workflow_type;
    error.command = fmt::format("RecordMarker side effect {}", number);
    error.position = fmt::format("{}:{}", where.file_name(), where.line());
    error.message = fmt::format(
        "[TMPRL1100] nondeterministic workflow: the code has side effect {} at {}, the history "
        "does not, workflow type \"{}\"",
        number, error.position, info_.workflow_type);
    nondeterminism_ = error;  // a `catch` of the workflow's own must not swallow it
    throw TaskFailure{std::move(error)};
  }
  count_given(value);
  detail::make_ref<SideEffectMachine>(*this, number)->record(value, where);
  return value;
}

std::string RunState::uuid() {
  const std::uint64_t high = (id_random_.next() & ~0xf000ULL) | 0x4000ULL;
  const std::uint64_t low = (id_random_.next() & ~(3ULL << 62)) | (1ULL << 63);
  return fmt::format("{:08x}-{:04x}-{:04x}-{:04x}-{:012x}", high >> 32, (high >> 16) & 0xffff,
                     high & 0xffff, low >> 48, low & 0xffffffffffffULL);
}

std::unique_ptr<Command> RunState::make_command(enums::CommandType type) const {
  if (!sends_commands()) return nullptr;
  auto command = std::make_unique<Command>();
  command->set_command_type(type);
  return command;
}

void RunState::queue(enums::CommandType type, Machine* machine, std::unique_ptr<Command> command,
                     SourceLocation where) {
  if (command) collected_bytes_ += command->ByteSizeLong();
  outgoing_.push_back({type, false, detail::Ref<Machine>{machine}, std::move(command), where});
}

bool RunState::drop_unsent(const Machine& machine, enums::CommandType type) {
  const auto found = std::ranges::find_if(outgoing_, [&](const Outgoing& outgoing) {
    return outgoing.machine.get() == &machine && outgoing.type == type && !outgoing.sent;
  });
  if (found == outgoing_.end()) return false;
  if (found->command) collected_bytes_ -= found->command->ByteSizeLong();
  outgoing_.erase(found);
  return true;
}

void RunState::expect_events(std::int64_t initiating_event_id, Machine* machine) {
  operations_.emplace_back(initiating_event_id,
                           detail::Ref<Machine>{machine});  // event ids only grow
}

void RunState::forget_events(std::int64_t initiating_event_id) {
  const auto found = std::ranges::lower_bound(operations_, initiating_event_id, {},
                                              [](const auto& entry) { return entry.first; });
  if (found != operations_.end() && found->first == initiating_event_id) operations_.erase(found);
}

void RunState::collect(
    temporal::api::workflowservice::v1::RespondWorkflowTaskCompletedRequest& completion) {
  for (Outgoing& outgoing : outgoing_) {
    if (outgoing.sent) continue;
    outgoing.sent = true;
    if (outgoing.command) *completion.add_commands() = std::move(*outgoing.command);
    outgoing.command.reset();
  }
  for (auto& message : messages_) *completion.add_messages() = std::move(message);
  messages_ = {};
  collected_bytes_ = 0;
  completion.mutable_capabilities()->set_discard_speculative_workflow_task_with_events(true);
  if (!sdk_recorded_) {
    completion.mutable_sdk_metadata()->set_sdk_name(kSdkName);
    completion.mutable_sdk_metadata()->set_sdk_version(kSdkVersion);
  }
}

void RunState::check_size(std::string_view what, std::size_t size, std::size_t limit) const {
  if (limit == 0) return;
  if (size <= limit) {
    if (options_.payload_warning_bytes > 0 && size > options_.payload_warning_bytes)
      logger().warn("{}", too_large(what, size, limit));
    return;
  }
  throw TaskFailure{enums::WORKFLOW_TASK_FAILED_CAUSE_PAYLOADS_TOO_LARGE,
                    too_large(what, size, limit)};
}

void RunState::check_search_attributes(
    const temporal::api::common::v1::SearchAttributes& attributes) const {
  for (const auto& [name, value] : attributes.indexed_fields()) {
    check_size(fmt::format("the value of search attribute {}", name), value.data().size(),
               options_.search_attribute_limit_bytes);
  }
}

void RunState::check_command(const Command& command) const {
  const std::size_t limit = options_.payload_limit_bytes;
  if (command.has_schedule_activity_task_command_attributes()) {
    const auto& activity = command.schedule_activity_task_command_attributes();
    check_size(fmt::format("the input of activity {}", activity.activity_type().name()),
               activity.input().ByteSizeLong(), limit);
    return;
  }
  const auto type = name_of(command.command_type());
  check_size(type, command.ByteSizeLong(), limit);
  const auto check_start = [&](const auto& next) {
    check_size(fmt::format("the memo of {}", type), next.memo().ByteSizeLong(),
               options_.memo_limit_bytes);
    check_search_attributes(next.search_attributes());
    check_size(fmt::format("the sum of the search attributes of {}", type),
               next.search_attributes().ByteSizeLong(), options_.search_attributes_limit_bytes);
  };
  if (command.has_upsert_workflow_search_attributes_command_attributes()) {
    check_search_attributes(
        command.upsert_workflow_search_attributes_command_attributes().search_attributes());
  } else if (command.has_start_child_workflow_execution_command_attributes()) {
    check_start(command.start_child_workflow_execution_command_attributes());
  } else if (command.has_continue_as_new_workflow_execution_command_attributes()) {
    check_start(command.continue_as_new_workflow_execution_command_attributes());
  }
}

// What the server would refuse with consequences (it terminates the workflow) is refused here.
void RunState::check_sizes(
    const temporal::api::workflowservice::v1::RespondWorkflowTaskCompletedRequest& completion)
    const {
  for (const Command& command : completion.commands()) check_command(command);
  // The server judges what an upsert makes of all that there is, and not only what is new.
  check_size("the memo of the workflow", most_memo_bytes_, options_.memo_limit_bytes);
  check_size("the sum of all search attributes", most_search_attributes_bytes_,
             options_.search_attributes_limit_bytes);
  for (const auto& message : completion.messages()) {
    check_size(fmt::format("the answer of update {}", message.protocol_instance_id()),
               message.body().ByteSizeLong(), options_.payload_limit_bytes);
  }
  if (const std::size_t size = completion.ByteSizeLong(); size > options_.completion_limit_bytes) {
    throw TaskFailure{
        enums::WORKFLOW_TASK_FAILED_CAUSE_REQUEST_TOO_LARGE,
        too_large("the answer to the workflow task", size, options_.completion_limit_bytes)};
  }
}

temporal::api::query::v1::WorkflowQueryResult RunState::answer(
    const temporal::api::query::v1::WorkflowQuery& query) {
  temporal::api::query::v1::WorkflowQueryResult result;
  const bool was_replaying = std::exchange(replaying_, true);
  scheduler_.read_only = true;
  try {
    Payload payload = answer_payload(query);
    Misuse::rethrow();
    if (payload.ByteSizeLong() > options_.payload_limit_bytes) {
      throw std::runtime_error{too_large(fmt::format("the answer of query {}", query.query_type()),
                                         payload.ByteSizeLong(), options_.payload_limit_bytes)};
    }
    result.set_result_type(enums::QUERY_RESULT_TYPE_ANSWERED);
    *result.mutable_answer()->add_payloads() = std::move(payload);
  } catch (...) {
    result.set_result_type(enums::QUERY_RESULT_TYPE_FAILED);
    *result.mutable_failure() = to_proto(std::current_exception());
    result.set_error_message(result.failure().message());
  }
  scheduler_.read_only = false;
  Misuse::forget();  // it failed the query, not the task
  replaying_ = was_replaying;
  return result;
}

Payload RunState::answer_payload(const temporal::api::query::v1::WorkflowQuery& query) {
  if (!workflow_) throw std::runtime_error{"the workflow has not done its first task yet"};
  if (query.query_type() == "__stack_trace")
    return PayloadCodec<std::string>::encode(stack_trace());
  if (query.query_type() == "__temporal_workflow_metadata") return metadata();
  InboundCall call{.kind = InboundCall::Kind::kQuery,
                   .name = query.query_type(),
                   .headers = detail::read_headers(query.header()),
                   .input = query.query_args()};
  return detail::query_through(
      interceptors_, 0, context_, std::move(call),
      [this](const InboundCall& its) { return call_query(its.name, its.input); });
}

Payload RunState::call_query(const std::string& name, const Payloads& input) const {
  if (const auto found = definition_->queries.find(name); found != definition_->queries.end())
    return found->second.answer(workflow_.get(), input);
  if (definition_->dynamic_query) return definition_->dynamic_query(workflow_.get(), name, input);
  std::vector<std::string> known{"__stack_trace", "__temporal_workflow_metadata"};
  for (const auto& [each, handler] : definition_->queries) known.push_back(each);
  throw std::runtime_error{
      fmt::format("unknown query {}; known: {}", name, fmt::join(known, ", "))};
}

Payload RunState::metadata() const {
  temporal::api::sdk::v1::WorkflowMetadata metadata;
  auto& definition = *metadata.mutable_definition();
  definition.set_type(info_.workflow_type);
  const auto add = [](auto* list, const std::string& name, const std::string& description) {
    auto* entry = list->Add();
    entry->set_name(name);
    entry->set_description(description);
  };
  add(definition.mutable_query_definitions(), "__stack_trace",
      "where each coroutine of the workflow waits");
  add(definition.mutable_query_definitions(), "__temporal_workflow_metadata", "this description");
  for (const auto& [name, query] : definition_->queries) {
    add(definition.mutable_query_definitions(), name, query.description);
  }
  for (const auto& [name, signal] : definition_->signals) {
    add(definition.mutable_signal_definitions(), name, signal.description);
  }
  for (const auto& [name, update] : definition_->updates) {
    add(definition.mutable_update_definitions(), name, update.description);
  }
  // Without a name: whatever has no entry of its own.
  const std::string any = "takes any other name";
  if (definition_->dynamic_query) add(definition.mutable_query_definitions(), {}, any);
  if (definition_->dynamic_signal) add(definition.mutable_signal_definitions(), {}, any);
  if (definition_->dynamic_update.start) add(definition.mutable_update_definitions(), {}, any);
  metadata.set_current_details(current_details_);
  return detail::message_payload(metadata);
}

std::string RunState::stack_trace() const {
  std::string text;
  for (const auto& root : roots_) {
    switch (root->kind) {
      case RootKind::kMain: text += "run"; break;
      case RootKind::kSignal: text += "signal " + root->name; break;
      case RootKind::kUpdate: text += "update " + root->name; break;
      case RootKind::kSpawned:
        text += fmt::format("spawned at {}:{}", root->where.file_name(), root->where.line());
    }
    if (root->waiting_for != nullptr) {
      text += fmt::format("\n    waits for {} ({}:{})", root->waiting_for->what,
                          root->waiting_for->where.file_name(), root->waiting_for->where.line());
    }
    text += "\n\n";
  }
  return text;
}

}  // namespace tempora::engine
