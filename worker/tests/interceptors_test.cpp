// Code of one's own around client, workflows and activities; the trace context is its first user.
#include <mutex>
#include <peers.hpp>
#include <tempora/interceptor.hpp>
#include <tempora/tracing.hpp>

#include "stage.hpp"

namespace tempora::behaviour {
namespace {

const TraceContext kTrace{"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "vendor=1"};

// What its caller's trace is, as an activity sees it.
const ActivityType<Void, std::string> kTraced{"traced", {.start_to_close = 10s}};

std::string traced() { return current_trace().value_or(TraceContext{"none", ""}).traceparent; }

struct Leaf {
  Task<std::string> run(Context& ctx, int more);
};
const Definition<Leaf> kLeaf{"Leaf", run(&Leaf::run)};

// In an activity of its own, of the run that it continues as, and in a local one.
Task<std::string> Leaf::run(Context& ctx, int more) {
  if (more > 0) ctx.continue_as_new(more - 1);
  const std::string local = co_await ctx.start_local(kTraced);
  const std::string remote = co_await ctx.execute(kTraced);
  co_return local == remote ? local : local + " but " + remote;
}

struct Tree {
  Task<std::string> run(Context& ctx) {
    const std::string own = co_await ctx.execute(kTraced);
    ChildWorkflowOptions options;
    const std::string child = co_await ctx.execute_child(kLeaf, options, 1);
    co_return own == child ? own : own + " but " + child;
  }
};
const Definition<Tree> kTree{"Tree", run(&Tree::run)};

ConnectionOptions with_client(std::shared_ptr<ClientInterceptor> interceptor) {
  ConnectionOptions options;
  options.interceptors = {std::move(interceptor)};
  return options;
}

TEST(Tracing, GoesFromTheClientThroughWorkflowsToActivitiesAndChildren) {
  NEEDS_SERVER();
  with_each_cache(
      [](Stage& stage) {
        stage.runs(kTree).runs(kLeaf).does(kTraced,
                                           [](ActivityContext&, const Void&) { return traced(); });
        stage.options.interceptors = trace_worker();
        stage.start_worker();
        EXPECT_EQ(must(stage.start(kTree).result<std::string>()), kTrace.traceparent);
      },
      with_client(trace_client([] { return kTrace; })));
}

TEST(Tracing, WithoutATraceNothingIsAdded) {
  NEEDS_SERVER();
  with_each_cache(
      [](Stage& stage) {
        stage.runs(kTree).runs(kLeaf).does(kTraced,
                                           [](ActivityContext&, const Void&) { return traced(); });
        stage.options.interceptors = trace_worker();
        stage.start_worker();
        EXPECT_EQ(must(stage.start(kTree).result<std::string>()), "none");
      },
      with_client(trace_client()));
}

// Notes what passes, in order, and marks it.
struct Notes {
  std::mutex mutex;
  std::vector<std::string> lines;
  void add(std::string line) {
    const std::lock_guard lock{mutex};
    lines.push_back(std::move(line));
  }
  int count(const std::string& line) {
    const std::lock_guard lock{mutex};
    return static_cast<int>(std::ranges::count(lines, line));
  }
};

struct NotedClient final : ClientInterceptor {
  explicit NotedClient(Notes& notes) : notes(notes) {}
  std::expected<void, ClientError> call(ClientCall& call, const Next& next) override {
    if (call.name == "forbidden") {
      ClientError error;
      error.code = ErrorCode::kPermissionDenied;
      return std::unexpected(std::move(error));
    }
    call.headers["by"] = PayloadCodec<std::string>::encode("client");
    auto made = next();
    notes.add((made ? "made " : "failed ") + call.name);
    return made;
  }
  Notes& notes;
};

struct NotedActivities final : ActivityInterceptor {
  Payloads execute(ActivityContext& context, ActivityCall call, const Next& next) override {
    const auto by = call.headers.find("by");
    const Payloads result = next(context, call);
    return encode_all(decode_argument<std::string>(result) + " by " +
                      (by == call.headers.end() ? std::string{"nobody"}
                                                : PayloadCodec<std::string>::decode(by->second)));
  }
};

struct NotedWorkflow final : WorkflowInterceptor {
  // A coroutine of its own round the handler's.
  Task<Payload> inbound(Context&, InboundCall call, Next next) override {
    const bool is_run = call.kind == InboundCall::Kind::kRun;
    if (call.kind == InboundCall::Kind::kSignal) call.input = encode_all(std::string{"changed"});
    const std::string by = PayloadCodec<std::string>::decode(call.headers.at("by"));
    Task<Payload> inner = next(std::move(call));
    const Payload result = co_await inner;
    if (!is_run) co_return result;
    co_return PayloadCodec<std::string>::encode(PayloadCodec<std::string>::decode(result) +
                                                " started by " + by);
  }
  // Who asks is told apart, and what is asked may be changed on either way.
  Payload query(Context&, InboundCall call, const NextQuery& next) override {
    const std::string by = PayloadCodec<std::string>::decode(call.headers.at("by"));
    if (call.name == "secret") throw ApplicationError{"not for " + by, "Refused"};
    call.input = encode_all(std::string{"asked"});
    const Payload answer = next(std::move(call));
    return PayloadCodec<std::string>::encode(PayloadCodec<std::string>::decode(answer) + " by " +
                                             by);
  }
  void validate(Context&, InboundCall call, const NextValidate& next) override {
    if (decode_argument<std::string>(call.input) == "rude")
      throw ApplicationError{"no such words", "Refused"};
    next(std::move(call));
  }
  void outbound(Context&, OutboundCall& call) override {
    call.headers["by"] = PayloadCodec<std::string>::encode("workflow");
  }
};

struct Spoken {
  std::string word;
  Task<std::string> run(Context& ctx) {
    co_await ctx.wait_until([this] { return !word.empty(); });
    const std::string done = co_await ctx.execute(kTraced);
    co_return word + " " + done;
  }
  Task<void> say(Context&, std::string what) {
    word = std::move(what);
    co_return;
  }
  Task<std::string> echo(Context&, std::string what) { co_return what; }
  void may_echo(const std::string& what) const {
    if (what.empty()) throw ApplicationError{"nothing to echo", "Empty"};
  }
  std::string look(std::string how) const { return how + " " + (word.empty() ? "early" : word); }
  std::string secret(std::string) const { return "never told"; }
};
const Definition<Spoken> kSpoken{"Spoken",
                                 run(&Spoken::run),
                                 signal("say", &Spoken::say),
                                 update("echo", &Spoken::echo, &Spoken::may_echo),
                                 query("look", &Spoken::look),
                                 query("secret", &Spoken::secret)};

TEST(Interceptors, AreAroundCallsHandlersAndActivities) {
  NEEDS_SERVER();
  Notes notes;
  with_each_cache(
      [&](Stage& stage) {
        stage.runs(kSpoken).does(kTraced,
                                 [](ActivityContext&, const Void&) { return std::string{"done"}; });
        stage.options.interceptors = {
            .activities = {std::make_shared<NotedActivities>()},
            .workflows = {[] { return std::make_unique<NotedWorkflow>(); }}};
        stage.start_worker();
        const auto handle = must(stage.client().start(kSpoken, stage.start_options()));
        EXPECT_EQ(must(handle.update<std::string>("echo", {}, std::string{"x"})), "x");
        const auto rude = handle.update<std::string>("echo", {}, std::string{"rude"});
        ASSERT_FALSE(rude);
        EXPECT_EQ(rude.error().message, "no such words") << rude.error().text();
        const auto empty = handle.update<std::string>("echo", {}, std::string{});
        ASSERT_FALSE(empty);
        EXPECT_EQ(empty.error().message, "nothing to echo") << "the validator inside is asked, too";
        EXPECT_EQ(must(handle.query<std::string>("look", std::string{"?"})),
                  "asked early by client");
        const auto secret = handle.query<std::string>("secret", std::string{"?"});
        ASSERT_FALSE(secret);
        EXPECT_NE(secret.error().message.find("not for client"), std::string::npos)
            << secret.error().text();
        must(handle.signal("say", std::string{"word"}));
        EXPECT_EQ(must(handle.result<std::string>()), "changed done by workflow started by client");
        const auto refused = handle.signal("forbidden");
        ASSERT_FALSE(refused);
        EXPECT_EQ(refused.error().code, ErrorCode::kPermissionDenied);
      },
      with_client(std::make_shared<NotedClient>(notes)));
  EXPECT_EQ(notes.count("made Spoken"), 3);
  EXPECT_EQ(notes.count("made say"), 3);
  EXPECT_EQ(notes.count("made echo"), 9) << "a rejected update is a call that was made, too";
}

}  // namespace
}  // namespace tempora::behaviour
