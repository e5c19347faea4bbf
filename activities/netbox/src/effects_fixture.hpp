// The NetBox activities on the stand-in, with a journal and a ledger that remember.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>

#include "addrflow/netbox/effects.hpp"
#include "standin.hpp"

namespace addrflow::netbox {

using nlohmann::json;

class FakeJournal : public ports::EffectJournal {
 public:
  ports::Leave begin(const v1::EffectRequest&, std::chrono::milliseconds) override {
    ++leave.attempt;
    return leave;
  }
  bool still_current(const v1::EffectRequest&) override { return current; }
  bool finish(const v1::EffectRequest&, int, const v1::EffectReply& outcome) override {
    finished.push_back(outcome.status());
    return current;
  }
  ports::Leave leave;
  bool current = true;
  std::vector<std::string> finished;
};

class FakeLedger : public ports::NetboxLedger {
 public:
  std::vector<ports::ClaimedEffect> claim_netbox(int limit, std::chrono::milliseconds,
                                                 std::chrono::milliseconds) override {
    limits.push_back(limit);
    std::vector<ports::ClaimedEffect> claimed;
    while (!due.empty() && static_cast<int>(claimed.size()) < limit) {
      claimed.push_back(due.front());
      due.erase(due.begin());
    }
    return claimed;
  }
  std::int64_t netbox_backlog() override { return static_cast<std::int64_t>(due.size()); }
  bool acquire_writer(const std::string&, const std::string&, std::chrono::milliseconds) override {
    return writer_free;
  }
  void release_writer(const std::string&, const std::string&) override { ++released; }
  void note_netbox_health(const ports::NetboxHealth& health) override { breaker = health.breaker; }

  std::vector<ports::ClaimedEffect> due;
  std::vector<int> limits;
  bool writer_free = true;
  int released = 0;
  std::string breaker;
};

class FakeWaker : public ports::ServiceWaker {
 public:
  bool wake(const v1::ServiceRef&) noexcept override {
    ++woken;
    return true;
  }
  int woken = 0;
};

class NetboxEffectsTest : public testing::Test {
 protected:
  explicit NetboxEffectsTest(const char* version = "4.6") : netbox_(version) {
    setenv("ADDRFLOW_TEST_NETBOX_TOKEN", StandIn::kToken, 1);
    client_ = std::make_shared<Client>(ClientOptions{.url = netbox_.url(),
                                                     .token = "env:ADDRFLOW_TEST_NETBOX_TOKEN",
                                                     .timeout = std::chrono::seconds{10}});
    EXPECT_TRUE(client_->setup(Clock::now() + std::chrono::seconds{20}));
    journal_.leave.kind = ports::Leave::Kind::kSend;
    journal_.leave.system = "netbox";
    journal_.leave.wish = {{"key", "t/1/internet/v4/1"}, {"address", "192.0.2.9"},
                           {"prefix_length", 24},        {"subscriber", "1"},
                           {"state", "allocated"},       {"description", "line 1"}};
  }
  v1::EffectReply apply(const std::string& action, const std::string& state = "allocated") {
    journal_.leave.action = action;
    journal_.leave.wish["state"] = state;
    return NetboxEffects{client_, journal_, ledger_, waker_}.apply({});
  }
  StandIn netbox_;
  std::shared_ptr<Client> client_;
  FakeJournal journal_;
  FakeLedger ledger_;
  FakeWaker waker_;
};

}  // namespace addrflow::netbox
