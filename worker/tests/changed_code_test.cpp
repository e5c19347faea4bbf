// Workflow code that no longer fits the histories of its runs: what waits is the task, never the
// workflow, and mended code goes on where the run stood.
#include <temporal/api/enums/v1/event_type.pb.h>
#include <temporal/api/enums/v1/failed_cause.pb.h>
#include <temporal/api/history/v1/message.pb.h>

#include <atomic>
#include <memory>
#include <peers.hpp>
#include <stdexcept>
#include <thread>

#include "stage.hpp"

namespace tempora::behaviour {
namespace {

namespace enums = temporal::api::enums::v1;

const ActivityType<Void, Void> kLooks{"looks", {.start_to_close = 10s}};

// Three builds of one workflow type.
struct First {
  bool told = false;
  Task<std::string> run(Context& ctx) {
    co_await ctx.sleep(10ms);
    co_await ctx.wait_until([this] { return told; });
    co_return "first";
  }
  void go(Context&) { told = true; }
};
struct Broken {
  bool told = false;
  Task<std::string> run(Context& ctx) {
    co_await ctx.execute(kLooks);  // where the runs that are under way began a timer
    co_await ctx.wait_until([this] { return told; });
    co_return "broken";
  }
  void go(Context&) { told = true; }
};
struct Mended {
  bool told = false;
  Task<std::string> run(Context& ctx) {
    if (ctx.patched("looks-first")) co_await ctx.execute(kLooks);
    co_await ctx.sleep(10ms);
    co_await ctx.wait_until([this] { return told; });
    co_return "mended";
  }
  void go(Context&) { told = true; }
};
const Definition<First> kFirst{"Rebuilt", run(&First::run), signal("go", &First::go)};
const Definition<Broken> kBroken{"Rebuilt", run(&Broken::run), signal("go", &Broken::go)};
const Definition<Mended> kMended{"Rebuilt", run(&Mended::run), signal("go", &Mended::go)};

// A worker of that build alone, on the stage's queue.
template <class W>
std::unique_ptr<Stage> build(const Stage& stage, const Definition<W>& definition) {
  auto made = std::make_unique<Stage>(stage.client(), stage.max_cached());
  made->options.task_queue = stage.queue();
  made->runs(definition).does(kLooks, [](ActivityContext&, const Void&) { return Void{}; });
  made->start_worker();
  return made;
}

temporal::api::history::v1::WorkflowTaskFailedEventAttributes first_failure(
    const WorkflowHandle& handle) {
  const auto history = must(handle.history());
  for (const auto& event : history->events()) {
    if (event.event_type() == enums::EVENT_TYPE_WORKFLOW_TASK_FAILED)
      return event.workflow_task_failed_event_attributes();
  }
  return {};
}

// Whether a task of the run failed. If it was lost instead, with a poll that the worker before had
// left, there is no event of its later attempts' failures.
bool fails_a_task(Stage& stage, const WorkflowHandle& handle) {
  const auto until = std::chrono::steady_clock::now() + 30s;
  while (std::chrono::steady_clock::now() < until) {
    if (stage.count_events(handle, enums::EVENT_TYPE_WORKFLOW_TASK_FAILED) > 0) return true;
    if (stage.count_events(handle, enums::EVENT_TYPE_WORKFLOW_TASK_TIMED_OUT) > 0) return false;
    std::this_thread::sleep_for(10ms);
  }
  throw std::runtime_error{"the task neither failed nor timed out"};
}

void expect_told(const WorkflowHandle& handle) {
  const auto failed = first_failure(handle);
  EXPECT_EQ(failed.cause(), enums::WORKFLOW_TASK_FAILED_CAUSE_NON_DETERMINISTIC_ERROR);
  const std::string& text = failed.failure().message();
  for (const char* part : {"[TMPRL1100]", "timer_id", "activity_type \"looks\"",
                           "changed_code_test.cpp:", "workflow type \"Rebuilt\""}) {
    EXPECT_NE(text.find(part), std::string::npos) << part << " is not in: " << text;
  }
}

TEST(ChangedCode, FailsTheTaskWithItsCauseAndTheRunGoesOnWithMendedCode) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    stage.runs(kMended).does(kLooks, [](ActivityContext&, const Void&) { return Void{}; });
    StartOptions how = stage.start_options();
    how.task_timeout = 5s;  // tasks that fail again are left to time out
    WorkflowHandle old_run;
    std::unique_ptr<Stage> broken;
    for (int tries = 0; broken == nullptr && tries < 3; ++tries) {
      const auto first = build(stage, kFirst);
      old_run = stage.start_with(kFirst, how);
      stage.wait_for_event(old_run, enums::EVENT_TYPE_WORKFLOW_TASK_COMPLETED, 2);
      first->worker().shutdown();

      broken = build(stage, kBroken);
      must(old_run.signal("go"));
      if (!fails_a_task(stage, old_run)) broken.reset();
    }
    ASSERT_NE(broken, nullptr);
    expect_told(old_run);
    broken->worker().shutdown();
    EXPECT_EQ(must(old_run.describe()).status, WorkflowStatus::kRunning);
    EXPECT_EQ(stage.count_events(old_run, enums::EVENT_TYPE_ACTIVITY_TASK_SCHEDULED), 0)
        << "nothing of what the broken code wished may be done";

    stage.start_worker();
    EXPECT_EQ(must(old_run.result<std::string>()), "mended");
  });
}

// The code stays, what it reads changes.
std::atomic<bool> s_looks_first{false};

struct Fickle {
  bool told = false;
  Task<std::string> run(Context& ctx) {
    if (s_looks_first) {
      co_await ctx.execute(kLooks);
    } else {
      co_await ctx.sleep(10ms);
    }
    co_await ctx.wait_until([this] { return told; });
    co_return "told";
  }
  void go(Context&) { told = true; }
};
const Definition<Fickle> kFickle{"Fickle", run(&Fickle::run), signal("go", &Fickle::go)};

TEST(ChangedCode, ThatReadsMoreThanItsHistoryIsFoundByTheReplay) {
  NEEDS_SERVER();
  s_looks_first = false;
  Stage stage{connect(), 0};
  stage.runs(kFickle).does(kLooks, [](ActivityContext&, const Void&) { return Void{}; });
  stage.start_worker();
  StartOptions how = stage.start_options();
  how.task_timeout = 5s;
  const auto handle = stage.start_with(kFickle, how);
  stage.wait_for_event(handle, enums::EVENT_TYPE_WORKFLOW_TASK_COMPLETED, 2);
  s_looks_first = true;
  must(handle.signal("go"));
  stage.wait_for_event(handle, enums::EVENT_TYPE_WORKFLOW_TASK_FAILED);
  EXPECT_EQ(first_failure(handle).cause(),
            enums::WORKFLOW_TASK_FAILED_CAUSE_NON_DETERMINISTIC_ERROR);
  s_looks_first = false;
  EXPECT_EQ(must(handle.result<std::string>()), "told");
  stage.worker().shutdown();
  stage.replay_all();
}

}  // namespace
}  // namespace tempora::behaviour
