#include "slots.hpp"

#include <gtest/gtest.h>

#include <vector>

namespace tempora::pollers {
namespace {

TEST(SlotPool, GrantsNoMoreThanItHas) {
  const auto pool = std::make_shared<SlotPool>(2);
  auto first = pool->try_reserve();
  auto second = pool->try_reserve();
  ASSERT_TRUE(first && second);
  EXPECT_FALSE(pool->try_reserve());
  first.reset();
  EXPECT_TRUE(pool->try_reserve());
}

TEST(SlotPool, ServesWaitersInTheOrderTheyCame) {
  const auto pool = std::make_shared<SlotPool>(1);
  auto held = pool->try_reserve();
  std::vector<int> order;
  std::vector<Permit> permits;
  for (int i = 0; i < 3; ++i) {
    pool->reserve([&, i](Permit permit) {
      order.push_back(i);
      permits.push_back(std::move(permit));
    });
  }
  EXPECT_TRUE(order.empty());
  held.reset();
  EXPECT_EQ(order, (std::vector{0}));
  // Taken out first: releasing it calls the next waiter, which adds to `permits`.
  Permit first = std::move(permits.front());
  permits.clear();
  first.release();
  EXPECT_EQ(order, (std::vector{0, 1}));
  pool->close();  // the third must not come while the permits are taken down
}

TEST(SlotPool, DoesNotLetATryOvertakeAWaiter) {
  const auto pool = std::make_shared<SlotPool>(1);
  auto held = pool->try_reserve();
  Permit waited;
  pool->reserve([&](Permit permit) { waited = std::move(permit); });
  held.reset();
  EXPECT_TRUE(static_cast<bool>(waited));
  EXPECT_FALSE(pool->try_reserve());
}

TEST(SlotPool, GrantsNothingAfterItWasClosed) {
  const auto pool = std::make_shared<SlotPool>(1);
  auto held = pool->try_reserve();
  bool granted = false;
  pool->reserve([&](Permit) { granted = true; });
  pool->close();
  held.reset();
  EXPECT_FALSE(granted);
  EXPECT_FALSE(pool->try_reserve());
  EXPECT_TRUE(pool->wait_idle(TimerQueue::Clock::now()));
}

}  // namespace
}  // namespace tempora::pollers
