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
  // A run that was served once, holds so much and is idle now.
  void serve(RunCache& cache, const std::string& run_id, std::size_t bytes = 0) {
    const auto taken = cache.take(task_of(run_id));
    ASSERT_NE(taken.entry, nullptr);
    if (taken.entry->run == nullptr) {
      taken.entry->run = std::make_unique<engine::Run>(registry_, engine::RunOptions{});
    }
    taken.entry->bytes = bytes;
    EXPECT_FALSE(cache.give_back(taken.entry, dropped_));
  }
  static bool holds(RunCache& cache, const std::string& run_id) {
    return cache.take(task_of(run_id)).entry->run != nullptr;
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

TEST_F(RunCacheTest, DropsTheLeastRecentlyUsedWhileAllHoldTooMuch) {
  RunCache cache{10, 100};
  serve(cache, "a", 30);
  serve(cache, "b", 30);
  serve(cache, "c", 30);
  serve(cache, "a", 30);
  EXPECT_TRUE(dropped_.empty());
  serve(cache, "d", 70);  // pushes b and c out
  EXPECT_EQ(dropped_.size(), 2U);
  EXPECT_EQ(cache.forced_evictions(), 2U);
  EXPECT_EQ(cache.cached_bytes(), 100U);
  EXPECT_TRUE(holds(cache, "a"));
  EXPECT_TRUE(holds(cache, "d"));
  EXPECT_FALSE(holds(cache, "b"));
}

TEST_F(RunCacheTest, ARunThatGrowsPushesOthersOut) {
  RunCache cache{10, 100};
  serve(cache, "a", 10);
  serve(cache, "b", 10);
  serve(cache, "a", 95);
  EXPECT_EQ(dropped_.size(), 1U);
  EXPECT_EQ(cache.cached_bytes(), 95U);
  EXPECT_TRUE(holds(cache, "a"));
}

TEST_F(RunCacheTest, ARunThatAloneHoldsTooMuchGoesAndTheOthersStay) {
  RunCache cache{10, 100};
  serve(cache, "a", 30);
  serve(cache, "large", 101);
  EXPECT_EQ(dropped_.size(), 1U);
  EXPECT_EQ(cache.forced_evictions(), 1U);
  EXPECT_EQ(cache.cached_bytes(), 30U);
  EXPECT_TRUE(holds(cache, "a"));
  EXPECT_FALSE(holds(cache, "large"));
}

TEST_F(RunCacheTest, ARunInHandCountsButIsNotDropped) {
  RunCache cache{10, 100};
  serve(cache, "a", 80);
  const auto in_hand = cache.take(task_of("a"));
  serve(cache, "b", 30);
  EXPECT_EQ(dropped_.size(), 1U) << "b went: a is in hand";
  EXPECT_NE(in_hand.entry->run, nullptr);
  EXPECT_EQ(cache.cached_bytes(), 80U);
}

TEST_F(RunCacheTest, WhatRunsHeldIsFreeWhenTheyAreGone) {
  RunCache cache{10, 100};
  serve(cache, "ends", 90);
  const auto last = cache.take(task_of("ends"));
  last.entry->run.reset();
  EXPECT_FALSE(cache.give_back(last.entry, dropped_));
  EXPECT_EQ(cache.cached_bytes(), 0U);
  serve(cache, "idle", 90);
  EXPECT_EQ(cache.drop_idle().size(), 1U);
  EXPECT_EQ(cache.cached_bytes(), 0U);
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
