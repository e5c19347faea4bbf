// A thousand NAS come back at once, and every service has something to say to them.
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <future>
#include <map>
#include <random>
#include <thread>
#include <unordered_map>
#include <unordered_set>

#include "addrflow/radius/client.hpp"
#include "storm_nas.hpp"

namespace addrflow::radius {
namespace {

constexpr int kNas = 1'000;
constexpr int kSessions = 66;  // more than a window of 64 to each
constexpr std::size_t kWindow = 64;

// What the devices see: answers lag behind, some datagrams are lost on their way.
class Storm {
 public:
  Storm() : thread_([this] { run(); }) {}
  ~Storm() {
    stopping_ = true;
    thread_.join();
  }
  std::uint16_t port() const { return nas_.port(); }

  std::atomic<int> twice_at_once{0};  // a session with two different requests outstanding
  std::atomic<std::size_t> widest{0};
  std::atomic<int> lost{0};

 private:
  void run() {
    std::minstd_rand random{1};
    while (!stopping_) {
      auto batch = nas_.receive(5);
      for (auto& datagram : batch) {
        if (random() % 200 == 0) {
          ++lost;
          continue;
        }
        note(datagram);
        waiting_.push_back(std::move(datagram));
      }
      // The newest are answered later: requests pile up to the window.
      if (!batch.empty() && waiting_.size() < kNas * kWindow / 2) continue;
      for (const auto& datagram : waiting_) {
        forget(datagram);
        nas_.acknowledge(datagram);
      }
      waiting_.clear();
    }
  }
  static std::string session_of(const StormNas::Datagram& datagram) {
    return std::to_string(datagram.to.s_addr) + "/" +
           decode(datagram.octets)->find(attribute::kAcctSessionId)->value;
  }
  void note(const StormNas::Datagram& datagram) {
    const std::string authenticator{datagram.octets.begin() + 4, datagram.octets.begin() + 20};
    // A repetition that arrives after the answer, as any device's duplicate detection takes it.
    if (answered_.contains(authenticator)) return;
    const auto [known, fresh] = open_.try_emplace(session_of(datagram), authenticator);
    if (!fresh) {
      if (known->second != authenticator) ++twice_at_once;
      return;  // a repetition
    }
    widest = std::max(widest.load(), ++outstanding_[datagram.to.s_addr]);
  }
  void forget(const StormNas::Datagram& datagram) {
    answered_.emplace(datagram.octets.begin() + 4, datagram.octets.begin() + 20);
    const std::string session = session_of(datagram);
    const auto open = open_.find(session);
    if (open == open_.end() || !answered_.contains(open->second)) return;
    open_.erase(open);
    --outstanding_[datagram.to.s_addr];
  }

  StormNas nas_{"s"};
  std::vector<StormNas::Datagram> waiting_;
  std::unordered_map<std::string, std::string> open_;
  std::unordered_set<std::string> answered_;
  std::unordered_map<std::uint32_t, std::size_t> outstanding_;
  std::atomic<bool> stopping_ = false;
  std::thread thread_;
};

TEST(StormTest, ThousandNasComeBackAndNothingIsLostOrSentTwiceAtOnce) {
  rlimit files{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &files), 0);
  if (files.rlim_cur < 2 * kNas) {
    files.rlim_cur = std::min<rlim_t>(files.rlim_max, 4 * kNas);
    ::setrlimit(RLIMIT_NOFILE, &files);
    if (files.rlim_cur < 2 * kNas) GTEST_SKIP() << "too few descriptors are allowed here";
  }
  Storm storm;
  ClientSettings settings;
  settings.initial_wait = std::chrono::milliseconds{1'000};
  settings.max_wait = std::chrono::milliseconds{4'000};
  settings.max_duration = std::chrono::milliseconds{60'000};
  settings.max_sendings = 12;
  settings.window = kWindow;
  settings.rate = 1e6;
  settings.burst = 1e6;
  Client client{settings};

  constexpr int kRequests = kNas * kSessions;
  std::atomic<int> acks = 0;
  std::atomic<int> left = kRequests;
  std::promise<void> all;
  for (int i = 0; i < kRequests; ++i) {
    const int nas = i % kNas;
    // Every tenth request meets the session of the one before it.
    const int number = i / kNas - ((i / kNas) % 10 == 9 ? 1 : 0);
    Request request;
    request.host = StormNas::host(nas);
    request.port = storm.port();
    request.secret = "s";
    request.session = "session-" + std::to_string(number);
    request.attributes = {{0, attribute::kAcctSessionId, request.session}};
    request.jitter = std::chrono::milliseconds{50};
    client.submit(std::move(request), [&](const Outcome& outcome) {
      acks += outcome.kind == Outcome::Kind::kAck;
      if (--left == 0) all.set_value();
    });
  }
  all.get_future().wait();
  EXPECT_EQ(acks, kRequests) << "lost";
  EXPECT_EQ(storm.twice_at_once, 0);
  EXPECT_LE(storm.widest, kWindow);
  EXPECT_GT(storm.lost, 0) << "the storm was none";
  EXPECT_EQ(client.counters().invalid_answers, 0U);
}

}  // namespace
}  // namespace addrflow::radius
