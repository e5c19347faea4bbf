// Everything that one cached run holds.
#pragma once

#include <temporal/api/protocol/v1/message.pb.h>
#include <temporal/api/query/v1/message.pb.h>
#include <temporal/api/workflowservice/v1/request_response.pb.h>

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <tempora/definition.hpp>
#include <tempora/nexus.hpp>
#include <utility>
#include <vector>

#include "engine/local.hpp"
#include "engine/random.hpp"
#include "engine/root.hpp"
#include "engine/run.hpp"
#include "engine/task_failure.hpp"
#include "history/chunks.hpp"
#include "machines/machine.hpp"
#include "machines/update.hpp"

namespace tempora::engine {

class LocalActivityMachine;
struct LocalMarker;

using WorkflowTask = temporal::api::workflowservice::v1::PollWorkflowTaskQueueResponse;

inline constexpr const char* kSdkName = "tempora";
inline constexpr const char* kSdkVersion = "0.1.0";

// A wait for a condition, in the order of registration.
class ConditionState final : public detail::FutureState {
 public:
  struct Node : detail::ListHook {
    ConditionState* owner = nullptr;
  };
  ConditionState() { node.owner = this; }
  const std::function<bool()>* condition = nullptr;
  Node node;
};

class RunState {
 public:
  RunState(const WorkflowRegistry& registry, RunOptions options);
  ~RunState();
  RunState(const RunState&) = delete;
  RunState& operator=(const RunState&) = delete;

  // --- for the seam
  TaskOutcome process(const WorkflowTask& task, bool replay_only);
  TaskOutcome resolve(const WorkflowTask& task, const LocalResult& result);
  TaskOutcome heartbeat(const WorkflowTask& task);
  bool has_room(const LocalResult& result) const;
  void completed(
      const temporal::api::workflowservice::v1::RespondWorkflowTaskCompletedResponse& response);
  std::int64_t last_started_event_id() const { return last_started_; }
  bool expects(const WorkflowTask& task) const;
  const std::optional<ReplayError>& nondeterminism() const { return nondeterminism_; }
  bool closed() const { return closed_; }
  const std::string& workflow_type() const { return info_.workflow_type; }
  std::size_t memory_bytes() const;
  VersioningBehavior versioning() const {
    return definition_ ? definition_->versioning : VersioningBehavior::kUnspecified;
  }

  // --- for the context
  const RunOptions& options() const { return options_; }
  // Of what is made into a failure where it is larger, instead of failing the task.
  std::size_t answer_limit() const {
    return std::min(options_.payload_limit_bytes, options_.answer_limit_bytes);
  }
  const std::string& task_queue() const { return info_.task_queue; }
  const WorkflowInfo& info() const { return info_; }
  TimePoint now() const { return now_; }
  bool replaying() const { return replaying_; }
  int handlers_running() const { return handlers_running_; }
  detail::Scheduler& scheduler() { return scheduler_; }
  const detail::Ref<detail::ScopeState>& root_scope() const { return root_scope_; }
  bool cancel_requested() const { return cancel_requested_; }
  const detail::Ref<detail::ValueState<void>>& cancelled() const { return cancelled_; }
  Logger logger() const;
  // False while frames are being destroyed: then nothing may happen. Throws `WorkflowMisuse` where
  // workflow code has no business calling.
  bool may_command(const char* what) const;
  // Puts an operation into the current scope; fails it and returns false if the scope is cancelled
  // already.
  bool enter_scope(detail::FutureState& future, const char* what, SourceLocation where);
  // A scope inside `parent`, which lives as long as it does.
  detail::Ref<detail::ScopeState> nested_scope(detail::ScopeState& parent, bool shielded);

  void schedule_activity(const detail::Ref<detail::FutureState>& future, const std::string& type,
                         const ActivityOptions& options, Payloads input, SourceLocation where);
  void start_local_activity(const detail::Ref<detail::FutureState>& future, const std::string& type,
                            const ActivityOptions& defaults, const LocalActivityOptions& options,
                            Payloads input, SourceLocation where);
  // The child's id.
  std::string start_child(const detail::Ref<detail::ValueState<std::string>>& started,
                          const detail::Ref<detail::FutureState>& result, const NamedHere& type,
                          ChildWorkflowOptions options, Payloads input);
  void signal_workflow(const detail::Ref<detail::FutureState>& future,
                       const detail::WorkflowTarget& target, const NamedHere& signal,
                       Payloads input);
  void cancel_workflow(const detail::Ref<detail::FutureState>& future,
                       const detail::WorkflowTarget& target, const std::string& reason,
                       SourceLocation where);
  void start_nexus(const detail::Ref<detail::ValueState<std::string>>& started,
                   const detail::Ref<detail::FutureState>& result, detail::NexusRequest request);
  void start_timer(const detail::Ref<detail::FutureState>& future, Duration duration,
                   const std::string& summary, SourceLocation where);
  void spawn(const detail::Ref<detail::FutureState>& future, Task<void> task, SourceLocation where);
  detail::Ref<ConditionState> watch(const std::function<bool()>& condition, SourceLocation where);
  bool holds(const std::function<bool()>& condition);
  bool patched(std::string_view id, bool deprecated, SourceLocation where);
  void upsert_search_attributes(const SearchAttributes& changes, SourceLocation where);
  void upsert_memo(const std::map<std::string, Payload>& changes, SourceLocation where);
  std::uint64_t random() { return user_random_.next(); }
  std::string uuid();
  void on_signal(const std::string& name, std::shared_ptr<Context::AnySignalHandler> handler);
  void on_any_signal(std::shared_ptr<Context::AnySignalHandler> handler);
  Payload side_effect(const std::function<Payload()>& function, SourceLocation where);
  void set_current_details(std::string text) { current_details_ = std::move(text); }

  // --- for the machines
  // What the interceptors give along with a command; asked on replay, too.
  Headers outbound(OutboundCall::Kind kind, const std::string& name);
  // Whether commands made now will really be sent; on replay they are only compared.
  bool sends_commands() const { return !replaying_; }
  std::unique_ptr<Command> make_command(enums::CommandType type) const;
  void queue(enums::CommandType type, Machine* machine, std::unique_ptr<Command> command,
             SourceLocation where);
  std::string next_timer_id() { return std::to_string(++timer_counter_); }
  // Local activities under way. A new one gets its number here.
  void add_local(LocalActivityMachine& machine, LocalRequest& request);
  void forget_local(const LocalActivityMachine& machine);
  void cancel_local(std::uint64_t seq) { local_cancels_.push_back(seq); }
  void abandon_local(std::uint64_t seq) { local_abandons_.push_back(seq); }
  // Takes an unsent command back; false if there is none.
  bool drop_unsent(const Machine& machine, enums::CommandType type);
  void expect_events(std::int64_t initiating_event_id, Machine* machine);
  // The operation behind `future` has this result; null if it has none.
  void fulfil(detail::FutureState& future, const Payload* result);
  void forget_events(std::int64_t initiating_event_id);
  void add_message(temporal::api::protocol::v1::Message message) {
    collected_bytes_ += message.ByteSizeLong();
    messages_.push_back(std::move(message));
  }

 private:
  // A command on its way: unsent, or sent and waiting for its event.
  struct Outgoing {
    enums::CommandType type;
    bool sent = false;
    detail::Ref<Machine> machine;
    std::unique_ptr<Command> command;
    SourceLocation where;
  };
  struct KnownPatch {
    bool deprecated = false;
    bool upserted = false;          // followed by the upsert of TemporalChangeVersion
    std::int64_t closing_event_id;  // the task that recorded it
  };
  // Signals beyond the definition's. Made on first use: most runs have none.
  struct LateSignals {
    std::map<std::string, std::shared_ptr<Context::AnySignalHandler>, std::less<>> handlers;
    std::shared_ptr<Context::AnySignalHandler> any;
    // In the order of arrival. The server bounds the number of signals of a run.
    struct Waiting {
      std::string name;
      Payloads input;
      Headers headers;
    };
    std::vector<Waiting> waiting;
  };
  // Something that starts a handler, and its place among the others.
  struct Arrival {
    std::int64_t after_event_id;
    const HistoryEvent* signal = nullptr;
    detail::Ref<UpdateMachine> update;
    std::size_t order = 0;
  };

  // history → state
  bool lines_up(const WorkflowTask& task) const;
  void activate(const WorkflowTask& task, const Chunk& chunk, bool live);
  void hand_over_locals();
  void resolve_recorded_locals(const Events& events, const Chunk& chunk);
  void resolve_local(LocalActivityMachine& machine, const LocalMarker& end);
  int match_consequences(const Events& events,
                         const Chunk& chunk);  // the index of the first other event
  void match(const Events& events, int index);
  bool is_skippable_patch(const Events& events, int index) const;
  void read_ahead(const Events& events, const Chunk& chunk);
  void read_metadata(const HistoryEvent& completed);
  void refuse_unknown_flags(const HistoryEvent& completed);
  std::vector<Arrival> arrivals(const WorkflowTask& task, const Chunk& chunk, bool live);
  void deliver_signal(const std::string& name, const Payloads& input,
                      const temporal::api::common::v1::Header& header);
  // False if it is to be kept, as only a codec's key is missing.
  bool drop_signal(const std::string& name, const Payloads& input, const PayloadError& error);
  // `start` inside the interceptors, if there are any.
  Task<Payload> intercepted(InboundCall::Kind kind, const std::string& name, Headers headers,
                            const Payloads& input, WorkflowInterceptor::Next start);
  Task<void> late_signal(const std::string& name, Headers headers, const Payloads& input,
                         const std::shared_ptr<Context::AnySignalHandler>& handler);
  using StartSignal = std::function<Task<void>(const Payloads&)>;
  Task<void> intercepted_signal(const std::string& name, Headers headers, const Payloads& input,
                                const StartSignal& start);
  void start_signal(const std::string& name, Task<void> task,
                    std::shared_ptr<Context::AnySignalHandler> keeper);
  LateSignals& late_signals();
  void deliver_waiting(const std::string* name,
                       const std::shared_ptr<Context::AnySignalHandler>& handler);
  void initialise(const WorkflowTask& task, const HistoryEvent& started);
  void apply(const HistoryEvent& event);
  void touch();

  // memory.cpp
  void count_given(const Payload& value);
  void count_given(const Payloads& values);
  void measure_workflow();

  // coroutines
  void add_root(std::unique_ptr<detail::Root> root);
  void drain();
  void drop_idle_scopes();
  void step(detail::Scheduler::Ready ready);
  bool start_update(detail::Root& root);
  // Throws to reject. `handler` null: the one for all names.
  void validate_update(const WorkflowDefinition::Update* handler, const std::string& name,
                       const Payloads& input) const;
  void finish_root(detail::Root* root);
  void end_main(detail::Root& root, const std::exception_ptr& error);
  void end_with_failure(const std::exception_ptr& error);
  void end_with(enums::CommandType type, std::unique_ptr<Command> command);
  void continue_as_new(const ContinueAsNewRequest& request);
  bool wake_one_condition();
  void seal_activation();
  Task<void> main_coroutine(Task<Payload> main);

  // state → answer
  template <class Work>
  TaskOutcome guarded(const WorkflowTask& task, Work work);
  // Ends the task, or hands over the local activities for which it stays open.
  void conclude(const WorkflowTask& task, TaskOutcome& outcome);
  void answer_task(const WorkflowTask& task, TaskOutcome& outcome);
  void tell_of_locals(LocalWork& work);
  void collect(temporal::api::workflowservice::v1::RespondWorkflowTaskCompletedRequest& completion);
  void note_search_attributes();
  // Throws if `size` is above `limit`. 0: it has none.
  void check_size(std::string_view what, std::size_t size, std::size_t limit) const;
  void check_search_attributes(const temporal::api::common::v1::SearchAttributes& attributes) const;
  void check_command(const Command& command) const;
  void check_sizes(const temporal::api::workflowservice::v1::RespondWorkflowTaskCompletedRequest&
                       completion) const;
  temporal::api::query::v1::WorkflowQueryResult answer(
      const temporal::api::query::v1::WorkflowQuery& query);
  Payload answer_payload(const temporal::api::query::v1::WorkflowQuery& query);
  Payload call_query(const std::string& name, const Payloads& input) const;
  Payload metadata() const;
  std::string stack_trace() const;
  TaskOutcome fail(const WorkflowTask& task, enums::WorkflowTaskFailedCause cause,
                   temporal::api::failure::v1::Failure failure);
  [[noreturn]] void nondeterminism(const HistoryEvent* event, const Outgoing* command,
                                   const std::string& why) const;

  const WorkflowRegistry& registry_;
  RunOptions options_;
  WorkflowInfo info_;
  detail::Scheduler scheduler_;
  Context context_;
  std::shared_ptr<const WorkflowDefinition> definition_;
  std::vector<std::unique_ptr<WorkflowInterceptor>> interceptors_;  // outlive all frames

  std::shared_ptr<void> workflow_;  // the user's object; outlives all frames
  detail::Ref<detail::ScopeState> root_scope_;
  // Scopes inside others than the root, and what they are in; in the order of their creation.
  struct Nested {
    detail::Ref<detail::ScopeState> scope;
    detail::Ref<detail::ScopeState> parent;
  };
  std::vector<Nested> nested_;
  detail::Ref<detail::ValueState<void>> cancelled_;
  std::vector<std::unique_ptr<detail::Root>> roots_;
  detail::ListHook conditions_;

  std::vector<Outgoing> outgoing_;
  std::vector<std::pair<std::int64_t, detail::Ref<Machine>>>
      operations_;                                         // by initiating event id, ascending
  std::vector<detail::Ref<LocalActivityMachine>> locals_;  // under way, in the order of their start
  std::vector<std::uint64_t> local_cancels_;               // for the worker
  std::vector<std::uint64_t> local_abandons_;              // for the worker
  std::vector<temporal::api::protocol::v1::Message> messages_;
  std::size_t collected_bytes_ = 0;    // commands and messages for the next answer
  std::size_t corrupted_signals_ = 0;  // for the next answer
  std::map<std::string, KnownPatch, std::less<>> known_patches_;  // in the history
  std::map<std::string, bool, std::less<>> patch_answers_;  // given to the workflow: never change
  std::vector<std::string> change_versions_;
  // The most that the upserts of the answer in hand made of what was there before.
  std::size_t most_memo_bytes_ = 0;
  std::size_t most_search_attributes_bytes_ = 0;
  std::map<std::uint64_t, Payload> known_side_effects_;  // of the activation in hand
  std::unique_ptr<LateSignals> late_signals_;
  // Updates that the server re-applied after a reset: their acceptance has no request.
  std::map<std::string, temporal::api::update::v1::Request, std::less<>> admitted_;
  std::vector<std::unique_ptr<temporal::api::update::v1::Request>>
      unpacked_;  // of the activation in hand
  std::unique_ptr<temporal::api::common::v1::RetryPolicy>
      retry_policy_;  // of the workflow, for continue-as-new
  std::string current_details_;

  std::unique_ptr<Command> terminal_;
  SourceLocation terminal_where_{};
  Payload result_;
  std::optional<ReplayError> nondeterminism_;

  const HistoryEvent* closing_ = nullptr;  // the WFT_STARTED of the activation in hand
  TimePoint now_{};
  RandomStream user_random_;
  RandomStream id_random_;
  std::int64_t last_started_ = 0;
  std::int64_t last_processed_ = 0;
  std::uint64_t activity_counter_ = 0;
  std::uint64_t timer_counter_ = 0;
  std::uint64_t side_effect_counter_ = 0;
  std::size_t given_bytes_ = 0;         // payloads that the workflow was handed, since it began
  std::size_t workflow_says_held_ = 0;  // after its last task
  int handlers_running_ = 0;
  bool replaying_ = false;
  bool touched_ = false;  // the activation in hand has done something
  bool cancel_requested_ = false;
  bool ended_ = false;         // the terminal command has been made
  bool closed_ = false;        // … and recorded
  bool poisoned_ = false;      // a task failed: the state is of no use any more
  bool sdk_recorded_ = false;  // our name and version stand in the history
  bool foreign_ = false;       // the last name in the history is of another SDK
};

}  // namespace tempora::engine
