// Signals: order, before the handler is reached, and while a workflow task is open.
#include <temporal/api/enums/v1/event_type.pb.h>
#include <temporal/api/enums/v1/failed_cause.pb.h>
#include <temporal/api/history/v1/message.pb.h>

#include <condition_variable>
#include <map>
#include <mutex>
#include <peers.hpp>

#include "stage.hpp"

namespace tempora::behaviour {
namespace {

struct Collector {
  std::vector<std::string> seen;
  bool done = false;

  Task<std::vector<std::string>> run(Context& ctx) {
    co_await ctx.wait_until([this] { return done; });
    co_return seen;
  }
  void add(Context&, std::string text) { seen.push_back(text); }
  Task<void> finish(Context& ctx) {
    co_await ctx.sleep(10ms);
    done = true;
  }
  std::vector<std::string> list() const { return seen; }
};

const Definition<Collector> kCollector{
    "Collector", run(&Collector::run), signal("add", &Collector::add),
    signal("finish", &Collector::finish), query("list", &Collector::list)};

TEST(Signals, ArriveOnceAndInOrder) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    stage.runs(kCollector);
    stage.start_worker();
    const auto handle = stage.start(kCollector);
    std::vector<std::string> expected;
    for (int i = 0; i < 20; ++i) {
      expected.push_back(std::to_string(i));
      must(handle.signal("add", expected.back()));
    }
    must(handle.signal("finish"));
    EXPECT_EQ(must(handle.result<std::vector<std::string>>()), expected);
  });
}

TEST(Signals, SentBeforeAnyWorkerRunsAreDeliveredBeforeTheMainCoroutine) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    stage.runs(kCollector);
    const auto handle = must(stage.client().signal_with_start(
        "Collector", stage.start_options(), Payloads{}, "add", std::string{"first"}));
    stage.remember(handle);
    must(handle.signal("add", std::string{"second"}));
    must(handle.signal("finish"));
    stage.start_worker();
    EXPECT_EQ(must(handle.result<std::vector<std::string>>()),
              (std::vector<std::string>{"first", "second"}));
  });
}

TEST(Signals, WithStartStartOnceAndSignalEachTime) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    stage.runs(kCollector);
    stage.start_worker();
    const StartOptions how = stage.start_options();
    const std::vector<std::string> words{"first", "second"};
    for (const std::string& word : words) {
      const auto handle = must(
          stage.client().signal_with_start(kCollector, how, Payloads{}, &Collector::add, word));
      EXPECT_EQ(handle.started(), word == "first");
      if (handle.started()) stage.remember(handle);
    }
    const auto handle = stage.client().handle(how.id);
    must(handle.signal(kCollector, &Collector::finish));
    EXPECT_EQ(must(handle.result<std::vector<std::string>>()), words);
  });
}

TEST(Signals, UnknownAndUndecodableOnesDoNotHarmTheRun) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    stage.runs(kCollector);
    stage.start_worker();
    const auto handle = stage.start(kCollector);
    must(handle.signal("no_such_signal", 1));
    must(handle.signal("add", std::vector<int>{1, 2}));
    must(handle.signal("add", std::string{"good"}));
    must(handle.signal("finish"));
    EXPECT_EQ(must(handle.result<std::vector<std::string>>()), (std::vector<std::string>{"good"}));
  });
}

// A workflow task that stays open until the test says so: not what a workflow may do, but the only
// way to be sure that a signal comes in while one is open.
class Gate {
 public:
  void pass_first() {
    std::unique_lock lock{mutex_};
    if (entered_) return;
    entered_ = true;
    changed_.notify_all();
    changed_.wait_for(lock, 8s, [this] { return open_; });
  }
  void wait_entered() {
    std::unique_lock lock{mutex_};
    changed_.wait_for(lock, 20s, [this] { return entered_; });
  }
  void open() {
    const std::lock_guard lock{mutex_};
    open_ = true;
    changed_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool entered_ = false;
  bool open_ = false;
};

std::mutex gates_mutex;
std::map<std::string, Gate> gates;

Gate& gate_of(const std::string& name) {
  const std::lock_guard lock{gates_mutex};
  return gates[name];
}

struct EndsAtOnce {
  int count = 0;
  Task<int> run(Context& ctx) {
    gate_of(ctx.info().workflow_id).pass_first();
    co_return count;
  }
  void add(Context&) { ++count; }
};

const Definition<EndsAtOnce> kEndsAtOnce{"EndsAtOnce", run(&EndsAtOnce::run),
                                         signal("add", &EndsAtOnce::add)};

TEST(Signals, OneThatComesInBeforeTheEndIsTakenIsHandledFirst) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    stage.options.deadlock_timeout = 0s;  // its code waits for the signal to be sent
    stage.runs(kEndsAtOnce);
    stage.start_worker();
    const auto handle = stage.start(kEndsAtOnce);
    Gate& gate = gate_of(handle.id());
    gate.wait_entered();
    must(handle.signal("add"));
    gate.open();
    EXPECT_EQ(must(handle.result<int>()), 1);
    int unhandled = 0;
    for (const auto& event : must(handle.history())->events()) {
      if (event.workflow_task_failed_event_attributes().cause() ==
          temporal::api::enums::v1::WORKFLOW_TASK_FAILED_CAUSE_UNHANDLED_COMMAND) {
        ++unhandled;
      }
    }
    EXPECT_EQ(unhandled, 1);
  });
}

}  // namespace
}  // namespace tempora::behaviour
