// Interceptors: code of one's own around the calls of a client, around activities, and around what
// comes into a workflow and what goes out of it. Headers travel with each of them.
#pragma once

#include <expected>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <tempora/errors.hpp>
#include <tempora/payload.hpp>
#include <tempora/task.hpp>
#include <vector>

namespace tempora {

class ActivityContext;
class Context;
class NexusContext;  // nexus_handler.hpp

using Headers = std::map<std::string, Payload>;

// A call of a client that carries headers to a workflow.
struct ClientCall {
  enum class Kind { kStart, kSignal, kSignalWithStart, kQuery, kUpdate, kUpdateWithStart };
  Kind kind = Kind::kStart;
  std::string workflow_id;
  std::string name;  // of the workflow type, signal, query or update
  Headers headers;   // changed before `next`: sent
};

// Safe to use from many threads.
class ClientInterceptor {
 public:
  using Next = std::function<std::expected<void, ClientError>()>;
  virtual ~ClientInterceptor() = default;
  // `next` makes the call, once at most; an error returned without it refuses the call.
  virtual std::expected<void, ClientError> call(ClientCall& call, const Next& next);
};

struct ActivityCall {
  Headers headers;
  Payloads input;
};

// Also around local activities. Safe to use from many threads.
class ActivityInterceptor {
 public:
  using Next = std::function<Payloads(ActivityContext&, const ActivityCall&)>;
  virtual ~ActivityInterceptor() = default;
  // On the activity's thread; what is thrown is the activity's failure.
  virtual Payloads execute(ActivityContext& context, ActivityCall call, const Next& next);
};

// Around what is asked of the operations of Nexus: starts and cancellations. Safe to use from many
// threads.
class NexusInterceptor {
 public:
  using Next = std::function<void(NexusContext&)>;
  virtual ~NexusInterceptor() = default;
  // On the handler's thread; what is thrown is as if the handler had thrown it.
  virtual void handle(NexusContext& context, const Next& next);
};

// What comes to a workflow.
struct InboundCall {
  enum class Kind { kRun, kSignal, kUpdate, kQuery };
  Kind kind = Kind::kRun;
  std::string name;  // of the workflow type, signal, update or query
  Headers headers;
  Payloads input;
};

// What a workflow asks for.
struct OutboundCall {
  enum class Kind { kActivity, kLocalActivity, kChild, kSignal, kContinueAsNew, kNexus };
  Kind kind = Kind::kActivity;
  std::string name;  // of the activity, child workflow, signal or Nexus operation
  Headers headers;   // for kNexus only texts are sent: payloads of a std::string
};

// One object for each run, made when the run is, so it may keep state. It is workflow code, under
// the same rules: no clock, no randomness, no I/O but by `Context`; and to put one before running
// workflows that commands anything is a change to their code.
class WorkflowInterceptor {
 public:
  using Next = std::function<Task<Payload>(InboundCall)>;
  using NextQuery = std::function<Payload(InboundCall)>;
  using NextValidate = std::function<void(InboundCall)>;
  virtual ~WorkflowInterceptor() = default;
  // `next` runs the workflow, or the handler, whose result (null for a signal) it gives.
  virtual Task<Payload> inbound(Context& context, InboundCall call, Next next);
  // `next` answers a query. Not called for those that begin with "__", which the runtime answers.
  // Under a query's rules: nothing of the run may change, and an interceptor's own state is lost
  // whenever the run leaves the cache, so what a query left there may be gone.
  virtual Payload query(Context& context, InboundCall call, const NextQuery& next);
  // `next` validates an update, before `inbound` and only live, never on replay. What is thrown
  // rejects it; the rules are those of a query.
  virtual void validate(Context& context, InboundCall call, const NextValidate& next);
  // May change the headers. Called on replay, too.
  virtual void outbound(Context& context, OutboundCall& call);
};

using WorkflowInterceptorFactory = std::function<std::unique_ptr<WorkflowInterceptor>()>;

// The first of each is the outermost.
struct WorkerInterceptors {
  std::vector<std::shared_ptr<ActivityInterceptor>> activities;
  std::vector<WorkflowInterceptorFactory> workflows;
  std::vector<std::shared_ptr<NexusInterceptor>> nexus{};
};

}  // namespace tempora
