// How many activities may begin in a second: of one worker, and of all workers of a queue.
#include <temporal/api/enums/v1/event_type.pb.h>
#include <temporal/api/workflowservice/v1/request_response.pb.h>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <peers.hpp>

#include "between_transport.hpp"
#include "stage.hpp"

namespace tempora::behaviour {
namespace {

namespace api = temporal::api::workflowservice::v1;

const ActivityType<Void, Void> kBegins{"begins", {.start_to_close = 30s}};

struct Burst {
  Task<void> run(Context& ctx, int wanted) {
    std::vector<Future<Void>> all;
    for (int i = 0; i < wanted; ++i) all.push_back(ctx.start(kBegins));
    for (const auto& each : all) co_await each;
  }
};
const Definition<Burst> kBurst{"Burst", run(&Burst::run)};

using Clock = std::chrono::steady_clock;

struct Starts {
  std::mutex mutex;
  std::vector<Clock::time_point> times;
  void note() {
    const std::lock_guard lock{mutex};
    times.push_back(Clock::now());
  }
  Clock::duration spread() {
    const std::lock_guard lock{mutex};
    const auto [first, last] = std::ranges::minmax(times);
    return last - first;
  }
};

// One poll: a task for it, two more for the second that went by, then one in half a second. The
// bound is half of what that makes, for the first one may be late on a busy machine.
TEST(ActivitiesPerSecond, OfAWorkerKeepThemApart) {
  NEEDS_SERVER();
  with_default_cache([](Stage& stage) {
    Starts starts;
    stage.options.max_activities_per_second = 2;
    stage.options.activity_pollers = 1;
    stage.runs(kBurst).does(kBegins, [&](ActivityContext&, const Void&) {
      starts.note();
      return Void{};
    });
    stage.start_worker();
    const int wanted = 7;
    must(stage.start(kBurst, wanted).result<void>());
    EXPECT_EQ(starts.times.size(), 7U);
    EXPECT_GE(starts.spread(), 1s);
    stage.worker().shutdown();
  });
}

// The server keeps the limit of a queue: it must be told with every poll, and no task may come
// past the queue.
TEST(ActivitiesPerSecond, OfAQueueAreToldToTheServerWithEachPoll) {
  NEEDS_SERVER();
  with_default_cache([](Stage& stage) {
    std::atomic<int> polls{0};
    std::atomic<int> told{0};
    std::atomic<int> eager{0};
    const auto between = std::make_shared<BetweenTransport>(stage.client().transport());
    between->on_request = [&](const google::protobuf::Message& request) {
      if (const auto* poll = dynamic_cast<const api::PollActivityTaskQueueRequest*>(&request)) {
        ++polls;
        if (poll->task_queue_metadata().max_tasks_per_second().value() == 3.0) ++told;
      }
    };
    between->on_answer = [&](const google::protobuf::Message& answer) {
      if (const auto* done =
              dynamic_cast<const api::RespondWorkflowTaskCompletedResponse*>(&answer))
        eager += done->activity_tasks_size();
    };
    stage.options.max_task_queue_activities_per_second = 3;
    stage.runs(kBurst);
    Worker worker{between, stage.client().namespace_name(), stage.options};
    worker.add(kBurst);
    worker.add(kBegins, [](ActivityContext&, const Void&) { return Void{}; });
    worker.start();
    const int wanted = 4;
    must(stage.start(kBurst, wanted).result<void>());
    worker.shutdown();
    EXPECT_GE(polls.load(), 4);
    EXPECT_EQ(told.load(), polls.load());
    EXPECT_EQ(eager.load(), 0);
  });
}

}  // namespace
}  // namespace tempora::behaviour
