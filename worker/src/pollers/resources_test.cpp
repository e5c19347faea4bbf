#include "resources.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace tempora::pollers {
namespace {

using namespace std::chrono_literals;

TEST(Resources, ReadWhatLinuxTells) {
  EXPECT_DOUBLE_EQ(used_memory("MemTotal:  1000 kB\nMemFree:  1 kB\nMemAvailable:  250 kB\n"),
                   0.75);
  EXPECT_DOUBLE_EQ(used_memory("200\n", "1000\n", ""), 0.2);
  EXPECT_DOUBLE_EQ(used_memory("200\n", "max\n", ""), 0) << "no limit";
  const CpuTimes times = cpu_times("cpu  10 1 5 80 4 0 0 0 99 99\ncpu0 1 1 1 1\n");
  EXPECT_DOUBLE_EQ(times.busy, 16);
  EXPECT_DOUBLE_EQ(times.total, 100);
  EXPECT_DOUBLE_EQ(quota_cores("150000 100000\n"), 1.5);
  EXPECT_DOUBLE_EQ(quota_cores("max 100000\n"), 0) << "no quota";
}

TEST(Resources, CountNoPageCacheThatTheKernelTakesBackFirst) {
  const std::string stat =
      "anon 100\nfile 800\nactive_file 100\ninactive_file 700\ninactive_anon 5\n";
  EXPECT_DOUBLE_EQ(used_memory("900\n", "1000\n", stat), 0.2);
  EXPECT_DOUBLE_EQ(used_memory("900\n", "1000\n", "inactive_file 1\ntotal_inactive_file 400\n"),
                   0.5);
  EXPECT_DOUBLE_EQ(used_memory("600\n", "1000\n", stat), 0) << "the files were read one by one";
}

TEST(Resources, TakeWhatTellsNothingForNoUse) {
  for (const std::string text : {"", "garbage", "garbage 1\n", "-5 -5\n", "\n\n", " "}) {
    SCOPED_TRACE(text);
    EXPECT_DOUBLE_EQ(used_memory(text), 0);
    EXPECT_DOUBLE_EQ(used_memory(text, "1000\n", ""), 0);
    EXPECT_DOUBLE_EQ(used_memory("200\n", text, ""), 0);
    EXPECT_DOUBLE_EQ(used_memory("200\n", "1000\n", text), 0.2);
    EXPECT_DOUBLE_EQ(quota_cores(text), 0);
  }
  EXPECT_DOUBLE_EQ(used_memory("MemTotal: 1000 kB\n"), 0);
  EXPECT_DOUBLE_EQ(used_memory("MemTotal: much\nMemAvailable: 1 kB\n"), 0);
  EXPECT_DOUBLE_EQ(quota_cores("100000"), 0);
  EXPECT_DOUBLE_EQ(quota_cores("100000 0"), 0);
  EXPECT_DOUBLE_EQ(cpu_times("").total, 0);
  EXPECT_DOUBLE_EQ(cpu_times("garbage\n").total, 0);
}

// A machine of files, whose memory is half full and whose processors have nothing to do.
class Machine : public ::testing::Test {
 protected:
  Machine() {
    write("proc/meminfo", "MemTotal: 1000 kB\nMemAvailable: 500 kB\n");
    processors(0, 0);
  }
  ~Machine() override { std::filesystem::remove_all(root_); }

  void write(const std::string& name, const std::string& text) const {
    const std::filesystem::path path = root_ / name;
    std::filesystem::create_directories(path.parent_path());
    std::ofstream{path} << text;
  }
  // Since the machine was started.
  void processors(int busy, int idle) const {
    write("proc/stat",
          "cpu  " + std::to_string(1 + busy) + " 0 0 " + std::to_string(1 + idle) + " 0 0 0 0\n");
  }
  void container_used(std::chrono::microseconds time) const {
    write("sys/fs/cgroup/cpu.stat",
          "usage_usec " + std::to_string(time.count()) + "\nuser_usec 1\nsystem_usec 1\n");
  }
  void look() { resources_ = std::make_unique<Resources>(kLimits, root_.string(), now_); }
  bool room_after(Resources::Clock::duration time) {
    now_ += time;
    return resources_->have_room(now_);
  }

 private:
  static constexpr ResourceLimits kLimits{.memory = 0.8, .cpu = 0.5};
  const std::filesystem::path root_ = std::filesystem::path{::testing::TempDir()} /
                                      ("resources_test_" + std::to_string(::getpid()));
  Resources::Clock::time_point now_ = Resources::Clock::time_point{} + 24h;
  std::unique_ptr<Resources> resources_;
};

TEST_F(Machine, HasRoomWhileItsProcessorsHaveLittleToDo) {
  look();
  processors(40, 60);
  EXPECT_TRUE(room_after(1s));
  processors(100, 100);
  EXPECT_FALSE(room_after(1s)) << "60 of the last 100";
  processors(100, 200);
  EXPECT_FALSE(room_after(99ms)) << "it was looked at a moment ago";
  EXPECT_TRUE(room_after(1ms));
}

TEST_F(Machine, CountsTheQuotaOfItsContainerAlone) {
  write("sys/fs/cgroup/cpu.max", "50000 100000\n");
  container_used(10s);
  look();
  processors(100, 0);
  container_used(10s + 200ms);
  EXPECT_TRUE(room_after(1s)) << "2 of 5; others keep the machine busy";
  processors(100, 100);
  container_used(10s + 500ms);
  EXPECT_FALSE(room_after(1s)) << "3 of 5, the machine has nothing to do";
  write("sys/fs/cgroup/cpu.max", "100000 100000\n");
  container_used(10s + 900ms);
  EXPECT_FALSE(room_after(1s)) << "part of it was another quota's";
  container_used(10s + 1300ms);
  EXPECT_TRUE(room_after(1s)) << "4 of 10";
}

TEST_F(Machine, BoundsAQuotaThatIsMoreThanThereIs) {
  write("sys/fs/cgroup/cpu.max", "400000 100000\n");
  write("proc/stat", "cpu  1 0 0 1 0 0 0 0\ncpu0 1 0 0 0 0 0 0 0\ncpu1 0 0 0 1 0 0 0 0\nintr 5\n");
  container_used(1s);
  look();
  container_used(1s + 800ms);
  EXPECT_TRUE(room_after(1s)) << "0.8 of 2";
  container_used(1s + 2000ms);
  EXPECT_FALSE(room_after(1s)) << "1.2 of 2";
}

TEST_F(Machine, CountsForAContainerWithoutAQuota) {
  write("sys/fs/cgroup/cpu.max", "max 100000\n");
  container_used(1s);
  look();
  processors(60, 40);
  EXPECT_FALSE(room_after(1s));
}

TEST_F(Machine, CountsForAContainerThatTellsNoUse) {
  write("sys/fs/cgroup/cpu.max", "50000 100000\n");
  look();
  processors(60, 40);
  EXPECT_FALSE(room_after(1s)) << "no cpu.stat";
  write("sys/fs/cgroup/cpu.stat", "garbage\n");
  processors(60, 140);
  EXPECT_TRUE(room_after(1s));
}

TEST_F(Machine, KeepsToTheMemoryOfItsContainer) {
  write("sys/fs/cgroup/memory.max", "1000\n");
  write("sys/fs/cgroup/memory.current", "900\n");
  write("sys/fs/cgroup/memory.stat", "anon 200\ninactive_file 700\n");
  look();
  EXPECT_TRUE(room_after(1s)) << "most of it is page cache";
  write("sys/fs/cgroup/memory.stat", "anon 850\ninactive_file 50\n");
  EXPECT_FALSE(room_after(1s));
  write("sys/fs/cgroup/memory.max", "max\n");
  EXPECT_TRUE(room_after(1s)) << "no limit";
}

TEST_F(Machine, MayTellOfItsContainerInTheFirstVersionOfCgroups) {
  write("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n");
  write("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
  write("sys/fs/cgroup/cpuacct/cpuacct.usage", "1000000000\n");
  write("sys/fs/cgroup/memory/memory.limit_in_bytes", "1000\n");
  write("sys/fs/cgroup/memory/memory.usage_in_bytes", "900\n");
  write("sys/fs/cgroup/memory/memory.stat", "inactive_file 0\ntotal_inactive_file 0\n");
  look();
  EXPECT_FALSE(room_after(1s)) << "no memory";
  write("sys/fs/cgroup/memory/memory.stat", "inactive_file 0\ntotal_inactive_file 400\n");
  EXPECT_TRUE(room_after(1s));
  write("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "50000\n");
  EXPECT_TRUE(room_after(1s)) << "the machine has nothing to do";
  write("sys/fs/cgroup/cpuacct/cpuacct.usage", "1300000000\n");
  EXPECT_FALSE(room_after(1s)) << "3 of 5";
}

TEST_F(Machine, HasRoomWhereNothingIsTold) {
  for (const std::string name :
       {"proc/meminfo", "proc/stat", "sys/fs/cgroup/cpu.max", "sys/fs/cgroup/cpu.stat",
        "sys/fs/cgroup/memory.current", "sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory.stat"}) {
    write(name, "garbage\n");
  }
  look();
  EXPECT_TRUE(room_after(1s));
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
