// Other workflows, as a workflow sees them: children that it starts, and runs that it only knows by
// their id.
#pragma once

#include <concepts>
#include <map>
#include <optional>
#include <source_location>
#include <string>
#include <string_view>
#include <tempora/activity_type.hpp>
#include <tempora/payload.hpp>
#include <tempora/search_attributes.hpp>
#include <tempora/task.hpp>
#include <tempora/time.hpp>
#include <tempora/workflow_policies.hpp>
#include <utility>

namespace tempora {

class Context;
template <class W>
class Definition;  // definition.hpp

// What the server does to a child whose parent has ended.
enum class ParentClosePolicy { kTerminate, kAbandon, kRequestCancel };

// When the result of a cancelled child becomes ready. A parent that ends in the same moment takes
// its request to cancel with it: the server passes on nothing for a closed run.
enum class ChildCancellationType {
  kWaitCompleted,  // when the child has really ended, however it ended
  kTryCancel,      // at once, as cancelled; the child is asked to stop
  kAbandon,        // at once, as cancelled; the child is not told
  kWaitRequested,  // as cancelled, once the server has passed the request on
};

// A zero duration means "not set".
struct ChildWorkflowOptions {
  std::string id;          // empty: `Context::uuid()`
  std::string task_queue;  // empty: the parent's own
  Duration execution_timeout{};
  Duration run_timeout{};
  Duration task_timeout{};
  ParentClosePolicy parent_close = ParentClosePolicy::kTerminate;
  ChildCancellationType cancellation = ChildCancellationType::kWaitCompleted;
  IdReusePolicy reuse = IdReusePolicy::kAllowDuplicate;
  std::optional<RetryPolicy> retry{};
  std::string cron{};
  std::map<std::string, Payload> memo{};
  SearchAttributes search_attributes{};
  Priority priority{};
  std::string summary{};  // one line for Temporal's UI
  std::string details{};  // Markdown for Temporal's UI
};

// A name, and the place in the code where it was given.
struct NamedHere {
  template <class S>
    requires std::convertible_to<const S&, std::string_view>
  NamedHere(const S& given, std::source_location here = std::source_location::current())
      : name(given), where(here) {}  // NOLINT: a text is meant
  std::string_view name;
  std::source_location where;
};

namespace detail {

struct WorkflowTarget {
  std::string id;
  std::string run_id;       // empty: the latest run
  bool child_only = false;  // a child of ours, nobody else of that id
};

bool encodes_arguments(Context& context);
Future<void> signal_workflow(Context& context, const WorkflowTarget& target, NamedHere signal,
                             Payloads input);
Future<void> cancel_workflow(Context& context, const WorkflowTarget& target,
                             const std::string& reason, std::source_location where);

template <class... A>
Payloads encode_if_sent(Context& context, const A&... arguments) {
  return encodes_arguments(context) ? encode_all(arguments...) : Payloads{};
}

}  // namespace detail

// A child under way. Copies stand for the same child. A start that the server refuses (another
// workflow has the id: `ChildWorkflowError::already_started`) is the end of both futures.
template <class O>
class ChildWorkflow {
 public:
  ChildWorkflow(Context& context, std::string id, Future<std::string> started, Future<O> result)
      : context_(&context),
        id_(std::move(id)),
        started_(std::move(started)),
        result_(std::move(result)) {}

  const std::string& id() const { return id_; }
  // Ready with the run id once the child runs. Await it before the parent ends, if the child is to
  // outlive it.
  const Future<std::string>& started() const { return started_; }
  const Future<O>& result() const { return result_; }
  // Asks the child to stop (`ChildWorkflowOptions::cancellation`). Before the start was sent: there
  // never was a child.
  void cancel(const std::string& reason = {}) const { result_.cancel(reason); }

  // Ready when the server has put the signal into the child's history. Wait for `started` first.
  template <class... A>
  Future<void> signal(NamedHere name, const A&... arguments) const {
    return detail::signal_workflow(*context_, {id_, {}, true}, name,
                                   detail::encode_if_sent(*context_, arguments...));
  }

 private:
  Context* context_;
  std::string id_;
  Future<std::string> started_;
  Future<O> result_;
};

// Any workflow of the same namespace. Failures are `ApplicationError`s of the type
// "ExternalWorkflowExecutionNotFound", "SignalCountLimitExceeded" or "NamespaceNotFound".
class ExternalWorkflow {
 public:
  ExternalWorkflow(Context& context, std::string id, std::string run_id)
      : context_(&context), id_(std::move(id)), run_id_(std::move(run_id)) {}

  const std::string& id() const { return id_; }
  const std::string& run_id() const { return run_id_; }

  // Ready when the server has put the signal into the other's history.
  template <class... A>
  Future<void> signal(NamedHere name, const A&... arguments) const {
    return detail::signal_workflow(*context_, {id_, run_id_, false}, name,
                                   detail::encode_if_sent(*context_, arguments...));
  }
  // Ready when the server has passed the request on, not when the other has ended. Works also in a
  // cancelled scope.
  Future<void> cancel(const std::string& reason = {},
                      std::source_location where = std::source_location::current()) const {
    return detail::cancel_workflow(*context_, {id_, run_id_, false}, reason, where);
  }

 private:
  Context* context_;
  std::string id_;
  std::string run_id_;
};

}  // namespace tempora
