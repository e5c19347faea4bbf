#include "resources.hpp"

#include <gtest/gtest.h>

namespace tempora::pollers {
namespace {

TEST(Resources, ReadWhatLinuxTells) {
  EXPECT_DOUBLE_EQ(used_memory("MemTotal:  1000 kB\nMemFree:  1 kB\nMemAvailable:  250 kB\n"),
                   0.75);
  EXPECT_DOUBLE_EQ(used_memory("200\n", "1000\n"), 0.2);
  EXPECT_DOUBLE_EQ(used_memory("200\n", "max\n"), 0) << "no limit";
  EXPECT_DOUBLE_EQ(used_memory("", ""), 0);
  const CpuTimes times = cpu_times("cpu  10 1 5 80 4 0 0 0 99 99\ncpu0 1 1 1 1\n");
  EXPECT_EQ(times.busy, 16U);
  EXPECT_EQ(times.total, 100U);
}

TEST(Resources, AFullMachineHoldsSlotsBackUntilThereIsRoom) {
  bool room = false;
  std::function<void()> look;
  const auto pool = std::make_shared<SlotPool>(
      10, nullptr,
      SlotGate{.open = [&] { return room; },
               .least = 2,
               .later = [&](std::function<void()> again) { look = std::move(again); }});
  std::vector<Permit> held;
  for (int i = 0; i < 5; ++i)
    pool->reserve([&](Permit permit) { held.push_back(std::move(permit)); });
  EXPECT_EQ(held.size(), 2U);
  EXPECT_FALSE(pool->try_reserve());
  Permit returned = std::move(held.back());
  held.pop_back();
  returned.release();
  EXPECT_EQ(held.size(), 2U) << "one of the least was free, so the next one has it";
  std::exchange(look, nullptr)();
  EXPECT_EQ(held.size(), 2U);
  room = true;
  std::exchange(look, nullptr)();
  EXPECT_EQ(held.size(), 4U);
  held.clear();
  EXPECT_EQ(pool->used(), 0U);
}

}  // namespace
}  // namespace tempora::pollers
