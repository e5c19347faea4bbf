// The cache's limit in memory: what is dropped, what stays, and that no result suffers.
#include <temporal/api/enums/v1/event_type.pb.h>

#include <atomic>
#include <memory>
#include <peers.hpp>
#include <stdexcept>
#include <thread>

#include "stage.hpp"

namespace tempora::behaviour {
namespace {

constexpr std::size_t kLoad = 100'000;

const ActivityType<int, std::string> kFetches{"fetches", {.start_to_close = 30s}};

std::string load_of(int number) { return std::string(kLoad, static_cast<char>('a' + number % 26)); }

std::string fetch(ActivityContext&, const int& number) { return load_of(number); }

// Keeps what it fetched until it is told to end.
struct Hoards {
  std::string kept;
  bool told = false;
  Task<bool> run(Context& ctx, int number) {
    kept = co_await ctx.execute(kFetches, number);
    co_await ctx.wait_until([this] { return told; });
    co_return kept == load_of(number);
  }
  void end(Context&) { told = true; }
};
const Definition<Hoards> kHoards{"Hoards", run(&Hoards::run), signal("end", &Hoards::end)};

// All have fetched and wait.
std::vector<WorkflowHandle> start_hoards(Stage& stage, int wanted) {
  stage.runs(kHoards).does(kFetches, fetch);
  stage.start_worker();
  std::vector<WorkflowHandle> all;
  for (int i = 0; i < wanted; ++i) all.push_back(stage.start(kHoards, i));
  for (const auto& each : all)
    stage.wait_for_event(each, temporal::api::enums::v1::EVENT_TYPE_WORKFLOW_TASK_COMPLETED, 2);
  return all;
}

// The events are there a moment before the worker has put the run away.
void wait_for_cached(Stage& stage, std::size_t at_most) {
  const auto until = std::chrono::steady_clock::now() + 30s;
  while (stage.worker().cached_workflows() > at_most) {
    if (std::chrono::steady_clock::now() > until) throw std::runtime_error{"too many are cached"};
    std::this_thread::yield();
  }
}

void end(const std::vector<WorkflowHandle>& all) {
  for (const auto& each : all) must(each.signal("end"));
  for (const auto& each : all) EXPECT_TRUE(must(each.result<bool>()));
}

TEST(CacheMemory, DropsIdleRunsLongBeforeTheirNumberIsReached) {
  NEEDS_SERVER();
  with_default_cache([](Stage& stage) {
    stage.options.max_cached_workflow_bytes = 10 * kLoad;
    const auto all = start_hoards(stage, 25);
    wait_for_cached(stage, 9);
    EXPECT_GE(stage.worker().cached_workflows(), 5U);
    EXPECT_LE(stage.worker().cached_workflow_bytes(), 10 * kLoad);
    EXPECT_GE(stage.worker().cached_workflow_bytes(), 5 * kLoad);
    end(all);
    stage.worker().shutdown();
  });
}

TEST(CacheMemory, ARunThatIsLargerThanTheLimitIsReplayedForEachTask) {
  NEEDS_SERVER();
  with_default_cache([](Stage& stage) {
    stage.options.max_cached_workflow_bytes = kLoad / 2;
    const auto all = start_hoards(stage, 4);
    wait_for_cached(stage, 0);
    end(all);
    stage.worker().shutdown();
  });
}

std::atomic<int> s_sums_made{0};

// Looks at what it gets and keeps a number.
struct Sums {
  std::size_t sum = 0;
  int heard = 0;
  Sums() { ++s_sums_made; }
  Task<std::size_t> run(Context& ctx, int wanted) {
    co_await ctx.wait_until([this, &wanted] { return heard == wanted; });
    co_return sum;
  }
  void add(Context&, std::string text) {
    sum += text.size();
    ++heard;
  }
  int count() const { return heard; }
  std::size_t held() const { return 0; }
};
const Definition<Sums> kSums{"Sums", run(&Sums::run), signal("add", &Sums::add),
                             query("count", &Sums::count)};
const Definition<Sums> kSumsThatTell{"Sums", run(&Sums::run), signal("add", &Sums::add),
                                     query("count", &Sums::count), held_bytes(&Sums::held)};

int made_for(const Definition<Sums>& definition) {
  int made = 0;
  with_default_cache([&](Stage& stage) {
    stage.options.max_cached_workflow_bytes = 2 * kLoad;
    stage.options.sticky_schedule_to_start_timeout = 10s;  // no replay but for want of room
    stage.runs(definition);
    stage.start_worker();
    const int before = s_sums_made;
    const int wanted = 6;
    const auto handle = stage.start(definition, wanted);
    for (int i = 1; i <= wanted; ++i) {
      must(handle.signal("add", load_of(i)));
      if (i == wanted) break;
      EXPECT_EQ(must(handle.query<int>("count")), i);  // so each signal has a task of its own
    }
    EXPECT_EQ(must(handle.result<std::size_t>()), wanted * kLoad);
    made = s_sums_made - before;
    stage.worker().shutdown();
  });
  return made;
}

TEST(CacheMemory, AWorkflowThatSaysWhatItHoldsStaysWhateverItWasGiven) {
  NEEDS_SERVER();
  EXPECT_EQ(made_for(kSumsThatTell), 1);
  EXPECT_GT(made_for(kSums), 1);
}

TEST(CacheMemory, OfNoCacheIsRefused) {
  NEEDS_SERVER();
  const WorkerOptions options{
      .task_queue = "nobody", .max_cached_workflows = 0, .max_cached_workflow_bytes = 1};
  EXPECT_THROW((Worker{connect(), options}), std::invalid_argument);
}

}  // namespace
}  // namespace tempora::behaviour
