#include "run_cache.hpp"

#include <gtest/gtest.h>

namespace tempora::pollers {
namespace {

WorkflowTask task_of(const std::string& run_id, std::int64_t started_event_id = 3) {
  WorkflowTask task;
  task.response =
      std::make_unique<temporal::api::workflowservice::v1::PollWorkflowTaskQueueResponse>();
  task.response->mutable_workflow_execution()->set_run_id(run_id);
  task.response->set_started_event_id(started_event_id);
  return task;
}

WorkflowTask query_of(const std::string& run_id) {
  WorkflowTask task = task_of(run_id, 0);
  task.response->mutable_query()->set_query_type("state");
  return task;
}

class RunCacheTest : public testing::Test {
 protected:
  // A run that was served once and is idle now.
  void serve(RunCache& cache, const std::string& run_id) {
    const auto taken = cache.take(task_of(run_id));
    ASSERT_NE(taken.entry, nullptr);
    if (taken.entry->run == nullptr) {
      taken.entry->run = std::make_unique<engine::Run>(registry_, engine::RunOptions{});
    }
    EXPECT_FALSE(cache.give_back(taken.entry, dropped_));
  }

  WorkflowRegistry registry_;
  std::vector<std::unique_ptr<engine::Run>> dropped_;
};

TEST_F(RunCacheTest, DropsTheLeastRecentlyUsedIdleRun) {
  RunCache cache{2};
  serve(cache, "a");
  serve(cache, "b");
  serve(cache, "a");
  serve(cache, "c");  // pushes b out
  EXPECT_EQ(dropped_.size(), 1U);
  EXPECT_NE(cache.take(task_of("a")).entry->run, nullptr);
  EXPECT_EQ(cache.take(task_of("b")).entry->run, nullptr);
}

TEST_F(RunCacheTest, NeverDropsARunInHand) {
  RunCache cache{1};
  const auto in_hand = cache.take(task_of("a"));
  in_hand.entry->run = std::make_unique<engine::Run>(registry_, engine::RunOptions{});
  serve(cache, "b");
  EXPECT_NE(in_hand.entry->run, nullptr);
  EXPECT_EQ(dropped_.size(), 1U) << "b went: a is in hand";
}

TEST_F(RunCacheTest, KeepsNothingWithoutACache) {
  RunCache cache{0};
  serve(cache, "a");
  EXPECT_EQ(dropped_.size(), 1U);
  EXPECT_EQ(cache.cached(), 0U);
}

TEST_F(RunCacheTest, ASecondTaskOfARunWaitsForTheFirst) {
  RunCache cache{10};
  const auto first = cache.take(task_of("a", 3));
  EXPECT_EQ(cache.take(task_of("a", 7)).entry, nullptr);
  const auto next = cache.give_back(first.entry, dropped_);
  ASSERT_TRUE(next.has_value());
  EXPECT_EQ(next->response->started_event_id(), 7);
}

TEST_F(RunCacheTest, OfWaitingTasksOnlyTheNewestCountsButEveryQueryIsAnswered) {
  RunCache cache{10};
  const auto first = cache.take(task_of("a", 3));
  cache.take(query_of("a"));
  cache.take(task_of("a", 7));
  cache.take(query_of("a"));
  cache.take(task_of("a", 9));
  std::vector<std::int64_t> served;
  while (auto next = cache.give_back(first.entry, dropped_)) {
    served.push_back(next->response->started_event_id());
  }
  EXPECT_EQ(served, (std::vector<std::int64_t>{0, 9, 0}));
}

}  // namespace
}  // namespace tempora::pollers
