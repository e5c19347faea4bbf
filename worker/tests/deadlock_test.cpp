// Workflow code that blocks its thread.
#include <temporal/api/enums/v1/event_type.pb.h>
#include <temporal/api/history/v1/message.pb.h>

#include <algorithm>
#include <array>
#include <condition_variable>
#include <mutex>
#include <peers.hpp>

#include "stage.hpp"

namespace tempora::behaviour {
namespace {

namespace enums = temporal::api::enums::v1;

// Something that blocks, until the test lets go.
class Gate {
 public:
  void pass() {
    std::unique_lock lock{mutex_};
    ++inside_;
    changed_.notify_all();
    changed_.wait(lock, [this] { return open_; });
    --inside_;
    changed_.notify_all();
  }
  void open() {
    const std::lock_guard lock{mutex_};
    open_ = true;
    changed_.notify_all();
  }
  void wait_empty() {
    std::unique_lock lock{mutex_};
    changed_.wait(lock, [this] { return inside_ == 0; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  int inside_ = 0;
  bool open_ = false;
};
std::array<Gate, 4> gates;  // one for each stage

std::size_t gate_of(const Stage& stage) { return std::min<std::size_t>(stage.max_cached(), 2); }

struct Blocks {
  bool told = false;
  Task<std::string> run(Context& ctx, std::size_t gate) {
    co_await ctx.wait_until([this] { return told; });
    co_await ctx.timer(10ms);
    gates.at(gate).pass();
    co_return "through";
  }
  Task<void> tell(Context&) {
    told = true;
    co_return;
  }
  bool is_told() const { return told; }
};
const Definition<Blocks> kBlocks{"Blocks", run(&Blocks::run), signal("tell", &Blocks::tell),
                                 query("is_told", &Blocks::is_told)};

struct Quick {
  Task<std::string> run(Context& ctx) {
    co_await ctx.timer(10ms);
    co_return "quick";
  }
};
const Definition<Quick> kQuick{"Quick", run(&Quick::run)};

std::string failure_of_task(const WorkflowHandle& handle) {
  for (const auto& event : must(handle.history())->events()) {
    if (event.event_type() == enums::EVENT_TYPE_WORKFLOW_TASK_FAILED)
      return event.workflow_task_failed_event_attributes().failure().message();
  }
  return {};
}

TEST(Deadlock, FailsTheTaskNamesThePlaceAndHoldsUpNobody) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    Gate& mine = gates.at(gate_of(stage));
    stage.options.workflow_threads = 1;
    stage.options.deadlock_timeout = 300ms;
    stage.runs(kBlocks).runs(kQuick);
    stage.start_worker();
    const auto handle = stage.start(kBlocks, gate_of(stage));
    must(handle.signal("tell"));
    stage.wait_for_event(handle, enums::EVENT_TYPE_WORKFLOW_TASK_FAILED);
    const std::string told = failure_of_task(handle);
    EXPECT_NE(told.find("[TMPRL1101]"), std::string::npos) << told;
    EXPECT_NE(told.find("since timer"), std::string::npos) << told;
    EXPECT_NE(told.find("deadlock_test.cpp:"), std::string::npos) << told;

    // The only thread is gone, another one works.
    EXPECT_EQ(must(stage.start(kQuick).result<std::string>()), "quick");

    mine.open();
    EXPECT_EQ(must(handle.result<std::string>()), "through");
    EXPECT_EQ(must(stage.start(kQuick).result<std::string>()), "quick");
    mine.wait_empty();
    stage.worker().shutdown();
  });
}

// Nobody waits for it: the worker ends, and the process with it.
TEST(Deadlock, AWorkerEndsWithoutTheThreadThatIsStuck) {
  NEEDS_SERVER();
  Gate& mine = gates.at(3);
  Stage stage{connect(), 1'000};
  stage.options.deadlock_timeout = 300ms;
  stage.runs(kBlocks);
  stage.start_worker();
  const auto handle = stage.start(kBlocks, std::size_t{3});
  must(handle.signal("tell"));
  stage.wait_for_event(handle, enums::EVENT_TYPE_WORKFLOW_TASK_FAILED);
  stage.kill_worker();
  mine.open();
  stage.start_worker();
  EXPECT_EQ(must(handle.result<std::string>()), "through");
  mine.wait_empty();
}

}  // namespace
}  // namespace tempora::behaviour
