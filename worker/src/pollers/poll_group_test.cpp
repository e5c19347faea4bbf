#include "poll_group.hpp"

#include <gtest/gtest.h>
#include <temporal/api/workflowservice/v1/request_response.pb.h>

#include "fake_transport.hpp"
#include "poller_hint.hpp"

namespace tempora::pollers {
namespace {

namespace api = temporal::api::workflowservice::v1;

struct Polling {
  std::shared_ptr<FakeTransport> transport = std::make_shared<FakeTransport>();
  std::shared_ptr<SlotPool> slots;
  std::shared_ptr<PollGroup> group;
  std::vector<Permit> tasks;

  Polling(std::size_t polls, std::size_t capacity, std::size_t most = 0)
      : slots(std::make_shared<SlotPool>(capacity)) {
    const auto environment = std::make_shared<CallEnvironment>(transport, "default");
    PollGroup::Settings settings{
        .method = methods::kPollActivityTask,
        .request = std::make_unique<api::PollActivityTaskQueueRequest>(),
        .new_response = [] { return std::make_unique<api::PollActivityTaskQueueResponse>(); },
        .is_empty =
            [](const auto& answer) {
              return static_cast<const api::PollActivityTaskQueueResponse&>(answer)
                  .task_token()
                  .empty();
            },
        .on_task = [this](PollGroup::MessagePtr,
                          Permit permit) { tasks.push_back(std::move(permit)); },
        .on_answer = nullptr,
        .hint = scaling_hint<api::PollActivityTaskQueueResponse>(most),
        .most_polls = most,
        .rate = nullptr,
        .polls = polls,
        .deadline = std::chrono::milliseconds{70'000},
        .log = Logger{},
    };
    group = std::make_shared<PollGroup>(environment, slots, std::move(settings));
    group->start();
  }
  ~Polling() { group->cancel_open(); }

  static api::PollActivityTaskQueueResponse task() {
    api::PollActivityTaskQueueResponse task;
    task.set_task_token("token");
    return task;
  }
  static api::PollActivityTaskQueueResponse hint(int by) {
    api::PollActivityTaskQueueResponse answer;
    answer.mutable_poller_scaling_decision()->set_poll_request_delta_suggestion(by);
    return answer;
  }
};

TEST(PollGroup, PollsOnlyWithASlot) {
  Polling polling{3, 2};
  EXPECT_EQ(polling.transport->started(), 2U);
}

TEST(PollGroup, PollsAgainAtOnceAfterAnEmptyAnswer) {
  Polling polling{1, 1};
  polling.transport->take()->answer(api::PollActivityTaskQueueResponse{});
  EXPECT_EQ(polling.transport->started(), 2U);
  EXPECT_TRUE(polling.tasks.empty());
}

TEST(PollGroup, KeepsTheSlotWithTheTask) {
  Polling polling{1, 1};
  polling.transport->take()->answer(Polling::task());
  ASSERT_EQ(polling.tasks.size(), 1U);
  EXPECT_EQ(polling.transport->started(), 1U) << "no slot is free for another poll";
  polling.tasks.clear();
  EXPECT_EQ(polling.transport->started(), 2U);
}

TEST(PollGroup, ReleasesTheSlotDuringBackOff) {
  Polling polling{1, 1};
  polling.transport->take()->fail(grpc_code::kUnavailable);
  EXPECT_EQ(polling.slots->used(), 0U);
}

TEST(PollGroup, StartsNoPollAfterStopButKeepsATaskThatStillArrives) {
  Polling polling{2, 2};
  const auto first = polling.transport->take();
  const auto second = polling.transport->take();
  polling.group->stop();
  first->answer(Polling::task());
  EXPECT_EQ(polling.tasks.size(), 1U);
  EXPECT_FALSE(polling.group->wait_closed(TimerQueue::Clock::now()));
  second->answer(api::PollActivityTaskQueueResponse{});
  EXPECT_TRUE(polling.group->wait_closed(TimerQueue::Clock::now()));
  EXPECT_EQ(polling.transport->started(), 2U);
}

TEST(PollGroup, EndsItsOpenPollsWhenCancelled) {
  Polling polling{2, 2};
  polling.group->cancel_open();
  EXPECT_TRUE(polling.group->wait_closed(TimerQueue::Clock::now()));
  EXPECT_EQ(polling.slots->used(), 0U);
}

TEST(PollGroup, GrowsAndShrinksAsTheServerSays) {
  Polling polling{1, 10, 3};
  polling.transport->take()->answer(Polling::hint(2));
  EXPECT_EQ(polling.group->open(), 3U);
  polling.transport->take()->answer(Polling::hint(5));
  EXPECT_EQ(polling.group->open(), 3U) << "never more than the limit";
  polling.transport->take()->answer(Polling::hint(-1));
  EXPECT_EQ(polling.group->open(), 2U);
  polling.transport->take()->answer(Polling::hint(-5));
  EXPECT_EQ(polling.group->open(), 1U) << "the other one is too many, too, once it is answered";
  polling.transport->take()->answer(Polling::hint(0));
  EXPECT_EQ(polling.group->open(), 1U) << "never less than one";
}

TEST(PollGroup, ShrinksWithEachEmptyAnswerIfTheServerGivesHints) {
  Polling polling{3, 10, 3};
  polling.transport->take()->answer(api::PollActivityTaskQueueResponse{});
  EXPECT_EQ(polling.group->open(), 3U) << "this server has no opinion";
  polling.transport->take()->answer(Polling::hint(0));
  polling.transport->take()->answer(api::PollActivityTaskQueueResponse{});
  EXPECT_EQ(polling.group->open(), 2U);
}

TEST(RateLimit, SpacesGrantsAfterAFirstBurst) {
  RateLimit limit{10.0};
  for (int i = 0; i < 10; ++i) EXPECT_EQ(limit.take(), TimerQueue::Clock::duration::zero());
  EXPECT_GT(limit.take(), std::chrono::milliseconds{50});
}

}  // namespace
}  // namespace tempora::pollers
