// A server that refuses work for want of room, and one that is away while activities run. Each
// execution of an activity is counted: at least one for every step, and no more than the server
// ordered attempts. (More than one is in the nature of things: a result that the server could not
// take in time is computed again.)
#include <temporal/api/history/v1/message.pb.h>

#include <cstdlib>
#include <map>
#include <mutex>
#include <peers.hpp>
#include <thread>

#include "between_transport.hpp"
#include "stage.hpp"

namespace tempora::behaviour {
namespace {

using Clock = std::chrono::steady_clock;

struct Step {
  int number = 0;
  bool long_one = false;  // is under way when the trouble begins
};
void to_json(nlohmann::json& json, const Step& step) { json = {step.number, step.long_one}; }
void from_json(const nlohmann::json& json, Step& step) {
  step = {json.at(0).get<int>(), json.at(1).get<bool>()};
}

constexpr int kSteps = 5;
const RetryPolicy kSoon{.initial_interval = 50ms, .maximum_interval = 1s};
const ActivityType<Step, int> kStep{"step", {.retry = kSoon}};

struct Walks {
  Task<int> run(Context& ctx, int patience_seconds) {
    ActivityOptions options;
    options.start_to_close = std::chrono::seconds{patience_seconds};
    int sum = 0;
    for (int i = 1; i <= kSteps; ++i) {
      const Step step{.number = i, .long_one = i == 2};
      sum += co_await ctx.execute(kStep, step, options);
      co_await ctx.sleep(20ms);
    }
    co_return sum;
  }
};
const Definition<Walks> kWalks{"Walks", run(&Walks::run)};

// Executions by workflow and step.
class Executions {
 public:
  void note(const ActivityContext& ctx, const Step& step) {
    const std::lock_guard lock{mutex_};
    ++counts_[{ctx.info().workflow_id, step.number}];
    if (step.long_one) ++long_ones_;
  }
  int of(const std::string& workflow, int step) const {
    const std::lock_guard lock{mutex_};
    const auto found = counts_.find({workflow, step});
    return found == counts_.end() ? 0 : found->second;
  }
  int long_ones() const {
    const std::lock_guard lock{mutex_};
    return long_ones_;
  }

 private:
  mutable std::mutex mutex_;
  std::map<std::pair<std::string, int>, int> counts_;
  int long_ones_ = 0;
};

// The attempt with which each step ended, first step first.
std::vector<int> attempts_of(const WorkflowHandle& handle) {
  std::vector<int> attempts;
  for (const auto& event : must(handle.history())->events()) {
    if (event.has_activity_task_started_event_attributes())
      attempts.push_back(event.activity_task_started_event_attributes().attempt());
  }
  return attempts;
}

void check(const WorkflowHandle& handle, const Executions& executions) {
  EXPECT_EQ(must(handle.result<int>()), 1 + 2 + 3 + 4 + 5);
  const std::vector<int> attempts = attempts_of(handle);
  ASSERT_EQ(attempts.size(), static_cast<std::size_t>(kSteps));
  for (int step = 1; step <= kSteps; ++step) {
    const int times = executions.of(handle.id(), step);
    EXPECT_GE(times, 1) << handle.id() << " step " << step;
    EXPECT_LE(times, attempts[static_cast<std::size_t>(step - 1)])
        << handle.id() << " step " << step << " was done again without a new attempt";
  }
}

template <class F>
bool comes_true(const F& condition) {
  const auto until = Clock::now() + 110s;
  while (!condition()) {
    if (Clock::now() > until) return false;
    std::this_thread::sleep_for(5ms);
  }
  return true;
}

// A worker behind `between`, whose long activities end only once `may_end()`.
struct Troubled {
  Troubled(Stage& stage, std::function<bool()> may_end)
      : between(std::make_shared<BetweenTransport>(stage.client().transport())) {
    stage.runs(kWalks);
    worker = std::make_unique<Worker>(between, stage.client().namespace_name(), stage.options);
    worker->add(kWalks);
    worker->add(kStep,
                [this, may_end = std::move(may_end)](ActivityContext& ctx, const Step& step) {
                  executions.note(ctx, step);
                  while (step.long_one && !may_end() && !ctx.wait_cancelled(5ms)) {
                  }
                  return step.number;
                });
  }
  std::shared_ptr<BetweenTransport> between;
  Executions executions;
  std::unique_ptr<Worker> worker;
};

// Of three calls two are refused until both kinds were often enough. A step's time is longer than
// that, so none is done twice.
TEST(ServerTrouble, RefusedPollsAndAnswersAreSentAgainLaterAndDoNothingTwice) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    std::atomic<bool> overloaded{false};
    std::atomic<int> calls{0};
    Troubled troubled{stage, [&] { return overloaded.load(); }};
    troubled.between->refuse = [&](const std::string& name) -> std::optional<CallStatus> {
      if (!overloaded || !(name.starts_with("Poll") || name.starts_with("Respond"))) return {};
      if (++calls % 3 == 0) return {};
      return CallStatus{.code = 8, .message = "scripted: namespace rate limit", .details = {}};
    };
    troubled.worker->start();
    const int patience_seconds = 60;
    std::vector<WorkflowHandle> handles;
    for (int i = 0; i < 5; ++i) handles.push_back(stage.start(kWalks, patience_seconds));
    ASSERT_TRUE(comes_true([&] { return troubled.executions.long_ones() >= 5; }));
    overloaded = true;
    const auto refused_often = [&] {
      auto refused = troubled.between->refused();
      const int polls = refused["PollWorkflowTaskQueue"] + refused["PollActivityTaskQueue"];
      return polls >= 3 && refused["RespondActivityTaskCompleted"] >= 3 &&
             refused["RespondWorkflowTaskCompleted"] >= 3;
    };
    EXPECT_TRUE(comes_true(refused_often));
    overloaded = false;
    for (const auto& handle : handles) {
      check(handle, troubled.executions);
      for (int step = 1; step <= kSteps; ++step)
        EXPECT_EQ(troubled.executions.of(handle.id(), step), 1) << "step " << step;
    }
    for (const auto& [name, times] : troubled.between->refused())
      EXPECT_LT(times, 2'000) << name << ": sent again without a pause";
    troubled.worker->shutdown();
  });
}

// How long the server is away; ./dev matrix takes a minute.
std::chrono::seconds outage() {
  const char* given = std::getenv("TEMPORA_OUTAGE_SECONDS");
  return std::chrono::seconds{given == nullptr ? 2 : std::atoi(given)};
}

// The time of a step is over before the server is back if it is away for long: then the result that
// nobody could take is computed again.
TEST(ServerTrouble, NoWorkflowIsLostWhileTheServerIsAway) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    std::atomic<bool> away{false};
    Troubled troubled{stage, [&] { return away.load(); }};
    troubled.worker->start();
    const int patience_seconds = 8;
    std::vector<WorkflowHandle> handles;
    StartOptions how = stage.start_options();
    how.execution_timeout += 3 * outage();
    for (int i = 0; i < 5; ++i) {
      how.id = unique("run");
      handles.push_back(stage.start_with(kWalks, how, patience_seconds));
    }
    ASSERT_TRUE(comes_true([&] { return troubled.executions.long_ones() >= 5; }));
    const auto back = Clock::now() + outage();
    troubled.between->down = true;
    away = true;
    EXPECT_TRUE(comes_true([&] {
      return Clock::now() >= back &&
             troubled.between->refused()["RespondActivityTaskCompleted"] >= 5;
    }));
    troubled.between->down = false;
    for (const auto& handle : handles) check(handle, troubled.executions);
    troubled.worker->shutdown();
  });
}

}  // namespace
}  // namespace tempora::behaviour
