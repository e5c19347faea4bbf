// One order for many workflows.
#include <temporal/api/enums/v1/event_type.pb.h>

#include <peers.hpp>
#include <tempora/batch.hpp>
#include <thread>

#include "stage.hpp"

namespace tempora::behaviour {
namespace {

struct Waits {
  std::string word;
  Task<std::string> run(Context& ctx) {
    co_await ctx.wait_until([this] { return !word.empty(); });
    co_return word;
  }
  Task<void> say(Context&, std::string what) {
    word = std::move(what);
    co_return;
  }
};

const Definition<Waits> kWaits{"Waits", run(&Waits::run), signal("say", &Waits::say)};

// The server carries a batch out by itself; there is nothing to wait on but its description.
BatchDescription finished(const Client& client, const std::string& job) {
  const auto until = std::chrono::steady_clock::now() + 60s;
  while (std::chrono::steady_clock::now() < until) {
    const auto described = client.batches().describe(job);
    if (described && described->state != BatchState::kRunning) return *described;
    std::this_thread::sleep_for(100ms);
  }
  throw std::runtime_error{"the batch did not end"};
}

std::vector<WorkflowHandle> started(Stage& stage, int count) {
  stage.runs(kWaits);
  stage.start_worker();
  std::vector<WorkflowHandle> handles;
  for (int i = 0; i < count; ++i) handles.push_back(stage.start(kWaits));
  return handles;
}

std::vector<BatchTarget> targets(const std::vector<WorkflowHandle>& handles) {
  std::vector<BatchTarget> all;
  for (const auto& handle : handles) all.push_back({.workflow_id = handle.id()});
  return all;
}

TEST(Batches, SignalEachOfThoseThatAreNamed) {
  NEEDS_SERVER();
  with_default_cache([](Stage& stage) {
    const auto handles = started(stage, 5);
    const std::string job = must(stage.client().batches().start(
        {.workflows = targets(handles),
         .reason = "they wait",
         .operation = BatchSignal{.name = "say", .input = encode_all(std::string{"go"})}}));
    for (const auto& handle : handles) EXPECT_EQ(must(handle.result<std::string>()), "go");
    const BatchDescription done = finished(stage.client(), job);
    EXPECT_EQ(done.state, BatchState::kCompleted);
    EXPECT_EQ(done.complete, 5);
    EXPECT_EQ(done.failed, 0);
    EXPECT_EQ(done.reason, "they wait");
    const auto until = std::chrono::steady_clock::now() + 30s;
    const auto is_listed = [&] {  // visibility is eventually consistent
      const auto all = must(stage.client().batches().list());
      return std::ranges::any_of(all, [&](const auto& one) { return one.job_id == job; });
    };
    while (!is_listed()) {
      ASSERT_LT(std::chrono::steady_clock::now(), until);
      std::this_thread::sleep_for(50ms);
    }
  });
}

TEST(Batches, TerminateAllThatAQueryFinds) {
  NEEDS_SERVER();
  with_default_cache([](Stage& stage) {
    const auto handles = started(stage, 3);
    const std::string query = "TaskQueue = '" + stage.queue() + "' AND ExecutionStatus = 'Running'";
    const auto until = std::chrono::steady_clock::now() + 30s;
    while (must(stage.client().count(query)).count < 3) {  // visibility is eventually consistent
      ASSERT_LT(std::chrono::steady_clock::now(), until);
      std::this_thread::sleep_for(50ms);
    }
    must(stage.client().batches().start(
        {.query = query, .reason = "enough", .operation = BatchTerminate{}}));
    for (const auto& handle : handles) {
      const auto result = handle.result<std::string>();
      ASSERT_FALSE(result);
      EXPECT_EQ(result.error().code, ErrorCode::kWorkflowTerminated) << result.error().text();
    }
  });
}

TEST(Batches, CancelEachOfThoseThatAreNamed) {
  NEEDS_SERVER();
  with_default_cache([](Stage& stage) {
    const auto handles = started(stage, 2);
    const std::string job = must(stage.client().batches().start({.workflows = targets(handles),
                                                                 .reason = "not wanted any more",
                                                                 .operation = BatchCancel{}}));
    for (const auto& handle : handles) {
      const auto result = handle.result<std::string>();
      ASSERT_FALSE(result);
      EXPECT_EQ(result.error().code, ErrorCode::kWorkflowCanceled) << result.error().text();
    }
    EXPECT_EQ(finished(stage.client(), job).complete, 2);
  });
}

TEST(Batches, DeleteEachOfThoseThatAreNamed) {
  NEEDS_SERVER();
  with_default_cache([](Stage& stage) {
    std::vector<WorkflowHandle> handles;  // not for the stage: there is nothing to replay
    for (int i = 0; i < 2; ++i)
      handles.push_back(must(stage.client().start(kWaits, stage.start_options())));
    const std::string job = must(stage.client().batches().start(
        {.workflows = targets(handles), .reason = "tidy up", .operation = BatchDelete{}}));
    EXPECT_EQ(finished(stage.client(), job).complete, 2);
    const auto until = std::chrono::steady_clock::now() + 60s;
    for (const auto& handle : handles) {
      auto described = handle.describe();
      while (described) {  // a run goes some time after the order
        ASSERT_LT(std::chrono::steady_clock::now(), until);
        std::this_thread::sleep_for(50ms);
        described = handle.describe();
      }
      EXPECT_EQ(described.error().code, ErrorCode::kNotFound) << described.error().text();
    }
  });
}

// The latest run of a workflow that has ended with "go", after a batch of resets.
WorkflowHandle reset_by(Stage& stage, const WorkflowHandle& handle, const BatchReset& how) {
  const std::string job = must(stage.client().batches().start(
      {.workflows = {{.workflow_id = handle.id(), .run_id = handle.started_run_id()}},
       .reason = "once more",
       .operation = how}));
  EXPECT_EQ(finished(stage.client(), job).complete, 1);
  const auto latest = stage.client().handle(handle.id());
  EXPECT_NE(must(latest.describe()).run_id, handle.started_run_id());
  stage.remember(latest);
  return latest;
}

TEST(Batches, ResetWithAndWithoutTheSignalsThatCameLater) {
  NEEDS_SERVER();
  with_default_cache([](Stage& stage) {
    const auto handles = started(stage, 3);
    for (const auto& handle : handles) {
      stage.wait_for_event(handle, temporal::api::enums::v1::EVENT_TYPE_WORKFLOW_TASK_COMPLETED);
      must(handle.signal("say", std::string{"go"}));
      EXPECT_EQ(must(handle.result<std::string>()), "go");
    }
    const auto kept = reset_by(stage, handles[0], {.point = ResetPoint::kFirstTask});
    EXPECT_EQ(must(kept.result<std::string>()), "go");
    const auto last = reset_by(stage, handles[1], {.point = ResetPoint::kLastTask});
    EXPECT_EQ(must(last.result<std::string>()), "go");
    const auto without =
        reset_by(stage, handles[2], {.point = ResetPoint::kFirstTask, .keep_signals = false});
    must(without.signal("say", std::string{"anew"}));
    EXPECT_EQ(must(without.result<std::string>()), "anew");
  });
}

// More than the server gets through before it is told to stop; it passes over what it does not
// find.
TEST(Batches, AreStopped) {
  NEEDS_SERVER();
  with_default_cache([](Stage& stage) {
    const BatchClient batches = stage.client().batches();
    BatchRequest request{.reason = "a mistake", .operation = BatchCancel{}};
    for (int i = 0; i < 500; ++i) request.workflows.push_back({.workflow_id = unique("nobody")});
    const std::string job = must(batches.start(request));
    EXPECT_EQ(must(batches.describe(job)).state, BatchState::kRunning);
    must(batches.stop(job, "seen in time"));
    EXPECT_EQ(finished(stage.client(), job).state, BatchState::kFailed);
    for (const std::string& ended : {job, unique("no-job")}) {
      const auto again = batches.stop(ended, "again");
      ASSERT_FALSE(again);
      EXPECT_EQ(again.error().code, ErrorCode::kNotFound) << again.error().text();
    }
  });
}

TEST(Batches, NameWhatIsMissing) {
  NEEDS_SERVER();
  with_default_cache([](Stage& stage) {
    const BatchClient batches = stage.client().batches();
    EXPECT_TRUE(batches.start({.reason = "x"}).error().message.starts_with("query:"));
    EXPECT_TRUE(
        batches.start({.query = "WorkflowId = 'x'"}).error().message.starts_with("reason:"));
    EXPECT_TRUE(
        batches.start({.query = "WorkflowId = 'x'", .reason = "x", .operation = BatchSignal{}})
            .error()
            .message.starts_with("operation.name:"));
  });
}

}  // namespace
}  // namespace tempora::behaviour
