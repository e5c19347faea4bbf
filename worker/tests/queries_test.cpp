// Queries: while the run is cached or not, failing ones, and after the end.
#include <temporal/api/enums/v1/event_type.pb.h>

#include <atomic>
#include <peers.hpp>
#include <thread>

#include "stage.hpp"

namespace tempora::behaviour {
namespace {

struct Counter {
  int value = 0;
  bool done = false;

  Task<int> run(Context& ctx) {
    co_await ctx.wait_until([this] { return done; });
    co_return value;
  }
  void add(Context&, int by) { value += by; }
  void finish(Context&) { done = true; }
  int get() const { return value; }
  int times(int factor) const { return value * factor; }
  int fails() const { throw ApplicationError{"cannot tell", "Secretive"}; }
};

const Definition<Counter> kCounter{"Counter",
                                   run(&Counter::run),
                                   signal("add", &Counter::add),
                                   signal("finish", &Counter::finish),
                                   query("get", &Counter::get),
                                   query("times", &Counter::times),
                                   query("fails", &Counter::fails)};

TEST(Queries, SeeTheStateOfTheirMomentAlsoAfterTheEnd) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    stage.runs(kCounter);
    stage.start_worker();
    const auto handle = stage.start(kCounter);
    EXPECT_EQ(must(handle.query<int>("get")), 0);
    must(handle.signal("add", 3));
    EXPECT_EQ(must(handle.query<int>("get")), 3);
    must(handle.signal("add", 4));
    EXPECT_EQ(must(handle.query<int>("times", 2)), 14);
    must(handle.signal("finish"));
    EXPECT_EQ(must(handle.result<int>()), 7);
    EXPECT_EQ(must(handle.query<int>("get")), 7);
  });
}

TEST(Queries, AreRefusedForARunThatHasEndedOrEndedBadlyIfTheySaySo) {
  NEEDS_SERVER();
  with_default_cache([](Stage& stage) {
    stage.runs(kCounter);
    stage.start_worker();
    const QueryOptions open{.reject = QueryReject::kNotOpen};
    const QueryOptions well{.reject = QueryReject::kNotCompletedCleanly};
    const auto completed = stage.start(kCounter);
    const auto terminated = stage.start(kCounter);
    for (const auto& handle : {completed, terminated}) {
      EXPECT_EQ(must(handle.query_with<int>("get", open)), 0);
      EXPECT_EQ(must(handle.query_with<int>("get", well)), 0);
    }
    must(completed.signal("finish"));
    must(completed.result<int>());
    must(terminated.terminate("badly"));
    EXPECT_EQ(must(completed.query_with<int>("get", well)), 0);
    const auto is_refused = [](const WorkflowHandle& handle, QueryOptions how, const char* status) {
      const auto answer = handle.query_with<int>("get", how);
      ASSERT_FALSE(answer.has_value());
      EXPECT_EQ(answer.error().code, ErrorCode::kQueryRejected) << answer.error().text();
      EXPECT_NE(answer.error().message.find(status), std::string::npos) << answer.error().text();
    };
    is_refused(completed, open, "Completed");
    is_refused(terminated, open, "Terminated");
    is_refused(terminated, well, "Terminated");
  });
}

TEST(Queries, ManyAtOnceAreAllAnswered) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    stage.runs(kCounter);
    stage.start_worker();
    const auto handle = stage.start(kCounter);
    must(handle.signal("add", 5));
    std::atomic<int> right{0};
    {
      std::vector<std::jthread> askers;
      for (int i = 0; i < 12; ++i) {
        askers.emplace_back([&] {
          const auto answer = handle.query<int>("get");
          if (answer && *answer == 5) ++right;
        });
      }
    }
    EXPECT_EQ(right.load(), 12);
    must(handle.signal("finish"));
    EXPECT_EQ(must(handle.result<int>()), 5);
  });
}

TEST(Queries, FailingAndUnknownOnesTellTheCallerAndLeaveTheRunAlone) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    stage.runs(kCounter);
    stage.start_worker();
    const auto handle = stage.start(kCounter);
    const auto failing = handle.query<int>("fails");
    ASSERT_FALSE(failing.has_value());
    EXPECT_NE(failing.error().message.find("cannot tell"), std::string::npos)
        << failing.error().text();
    const auto unknown = handle.query<int>("nobody");
    ASSERT_FALSE(unknown.has_value());
    EXPECT_NE(unknown.error().message.find("get"), std::string::npos)
        << "should list what there is: " << unknown.error().text();
    must(handle.signal("finish"));
    EXPECT_EQ(must(handle.result<int>()), 0);
  });
}

TEST(Queries, WorkAfterTheWorkerWasKilled) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    stage.runs(kCounter);
    stage.start_worker();
    const auto handle = stage.start(kCounter);
    must(handle.signal("add", 9));
    EXPECT_EQ(must(handle.query<int>("get")), 9);
    stage.kill_worker();
    stage.start_worker();
    EXPECT_EQ(query_after_kill<int>(handle, "get"), 9);
    must(handle.signal("finish"));
    EXPECT_EQ(must(handle.result<int>()), 9);
  });
}

struct Waits {
  Mutex mutex;
  bool done = false;
  Task<void> run(Context& ctx) {
    const Handle<void> rest = ctx.spawn(sleeps(ctx));
    {
      const MutexLock lock = co_await mutex.lock(ctx);
      co_await ctx.wait_until([this] { return done; });
    }
    rest.cancel();
    try {
      co_await rest;
    } catch (const CanceledError&) {  // as it was told
    }
  }
  static Task<void> sleeps(Context& ctx) { co_await ctx.sleep(1h); }
  Task<void> enter(Context& ctx) { const MutexLock lock = co_await mutex.lock(ctx); }
  void finish(Context&) { done = true; }
};
const Definition<Waits> kWaits{"Waits", run(&Waits::run), signal("enter", &Waits::enter),
                               signal("finish", &Waits::finish)};

TEST(Queries, TheStackTraceTellsWhereEachCoroutineWaits) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    stage.runs(kWaits);
    stage.start_worker();
    const auto handle = stage.start(kWaits);
    // The first task is over: else the handler would be there before `run`.
    stage.wait_for_event(handle, temporal::api::enums::v1::EVENT_TYPE_TIMER_STARTED);
    must(handle.signal("enter"));
    const auto trace = must(handle.query<std::string>("__stack_trace"));
    const auto says = [&](const std::string& what) {
      EXPECT_NE(trace.find(what), std::string::npos) << what << "\n" << trace;
    };
    says("run\n    waits for condition (");
    says("signal enter\n    waits for mutex (");
    says("spawned at ");
    says("waits for timer (");
    says("queries_test.cpp:");
    must(handle.signal("finish"));
    must(handle.result<void>());
    EXPECT_EQ(must(handle.query<std::string>("__stack_trace")), "");
  });
}

}  // namespace
}  // namespace tempora::behaviour
