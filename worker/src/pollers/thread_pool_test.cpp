#include "thread_pool.hpp"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <fstream>
#include <latch>
#include <system_error>
#include <thread>

namespace tempora::pollers {
namespace {

constexpr int kDone = 0;
constexpr int kThreadsAreStillGiven = 2;

// From here on there is room for jobs, but not for another thread's stack.
bool use_up_threads() {
  constexpr std::size_t kRoomForJobs = std::size_t{2} << 20;
  constexpr int kMoreThanAreKeptForReuse = 100;
  std::size_t pages = 0;
  std::ifstream{"/proc/self/statm"} >> pages;
  const rlim_t now = pages * static_cast<std::size_t>(::getpagesize());
  const rlimit limit{.rlim_cur = now + kRoomForJobs, .rlim_max = RLIM_INFINITY};
  if (::setrlimit(RLIMIT_AS, &limit) != 0) return false;
  try {
    for (int i = 0; i < kMoreThanAreKeptForReuse; ++i) std::thread{[] { ::pause(); }}.detach();
    return false;
  } catch (const std::system_error&) {
    return true;
  }
}

// Ends the process: its limits are its own.
[[noreturn]] void work_with_one_thread() {
  ThreadPool pool{8};
  std::latch begun{1};
  std::latch full{1};
  std::latch done{4};
  pool.post([&] {
    begun.count_down();
    full.wait();
    done.count_down();
  });
  begun.wait();
  if (!use_up_threads()) ::_exit(kThreadsAreStillGiven);
  for (int job = 0; job < 3; ++job) pool.post([&] { done.count_down(); });
  full.count_down();
  done.wait();
  ::_exit(kDone);
}

TEST(ThreadPool, WorksWithThoseThreadsThatTheSystemGives) {
  EXPECT_EXIT(work_with_one_thread(), ::testing::ExitedWithCode(kDone), "");
}

}  // namespace
}  // namespace tempora::pollers
