// The ledger when things go wrong between it and its database, and the ways out of the gate that a
// good day does not take.
#include <atomic>
#include <future>
#include <mutex>
#include <random>
#include <set>
#include <thread>

#include "cutting_proxy.hpp"
#include "ledger_fixture.hpp"
#include "store.hpp"

namespace addrflow::ledger {
namespace {

using testing::CuttingProxy;
using testing::port_of;
using testing::with_port;

class LedgerFaultsTest : public LedgerTest {
 protected:
  // What an activity does: the same call again, until it has an answer.
  template <class F>
  static auto retried(F work, int& doubts) {
    for (;;) {
      try {
        return work();
      } catch (const LedgerError& error) {
        EXPECT_TRUE(error.retryable()) << error.what();
        doubts += error.in_doubt() ? 1 : 0;
        if (!error.retryable()) throw;
      }
    }
  }
};

TEST_F(LedgerFaultsTest, ACommitWhoseAnswerIsLostIsDoneOnceHoweverOftenItIsRepeated) {
  pool();
  CuttingProxy proxy{port_of(database_url())};
  settings.url = with_port(database_url(), proxy.port);
  ledger = std::make_unique<Ledger>(settings, &sessions);

  int doubts = 0;
  proxy.arm(0);
  const auto claimed = retried([&] { return ledger->claim(ask("allocate", "s", "k")); }, doubts);
  proxy.arm(0);
  const auto reserved = retried([&] { return reserve(claimed.claim()); }, doubts);
  proxy.arm(0);
  const auto moved =
      retried([&] { return ledger->transition(to(claimed.claim(), "allocated")); }, doubts);
  proxy.arm(0);
  retried([&] { return finish(claimed.claim()), true; }, doubts);
  EXPECT_EQ(proxy.cuts, 4);
  EXPECT_EQ(doubts, 4);

  const auto view = ledger->view(service("s"));
  EXPECT_EQ(view.number(), 1);
  ASSERT_EQ(view.bindings_size(), 1);
  EXPECT_EQ(view.bindings(0).address(), reserved.address());
  pqxx::connection connection{database_url()};
  pqxx::nontransaction tx{connection};
  const auto count = [&](const std::string& what) {
    return tx.exec_params("SELECT count(*) FROM " + what + " WHERE tenant_id = $1", tenant)[0][0]
        .as<int>();
  };
  EXPECT_EQ(count("operations"), 1);
  EXPECT_EQ(count("holdings"), 1);
  EXPECT_EQ(count("effects"), 1) << moved.aaa().effect_id();
  expect_clean();
}

TEST_F(LedgerFaultsTest, AnEffectsOutcomeIsNotLostWithTheAnswerToItsCommit) {
  pool();
  const auto claimed = ledger->claim(ask("allocate", "s", "k"));
  reserve(claimed.claim());
  const auto moved = ledger->transition(to(claimed.claim(), "allocated"));
  CuttingProxy proxy{port_of(database_url())};
  settings.url = with_port(database_url(), proxy.port);
  ledger = std::make_unique<Ledger>(settings, &sessions);

  v1::EffectRequest request;
  *request.mutable_service() = service("s");
  request.set_number(claimed.claim().number());
  *request.mutable_effect() = moved.aaa();
  int doubts = 0;
  proxy.arm(0);
  const auto leave =
      retried([&] { return ledger->begin(request, std::chrono::seconds{1}); }, doubts);
  ASSERT_EQ(leave.kind, ports::Leave::Kind::kSend);
  EXPECT_EQ(leave.attempt, 2);  // the first may have been sent, as far as anybody knows
  EXPECT_TRUE(leave.earlier_unknown);
  v1::EffectReply reply;
  reply.set_status("confirmed");
  proxy.arm(0);
  EXPECT_TRUE(retried([&] { return ledger->finish(request, leave.attempt, reply); }, doubts));
  EXPECT_EQ(doubts, 2);
  EXPECT_EQ(ledger->begin(request, std::chrono::seconds{1}).kind, ports::Leave::Kind::kRecorded);
}

TEST_F(LedgerFaultsTest, AWorkerFrozenInATransactionLosesItsLocksAndItsWork) {
  pool();
  const auto claimed = ledger->claim(ask("allocate", "s", "k"));
  CuttingProxy proxy{port_of(database_url())};
  Settings through = settings;
  through.url = with_port(database_url(), proxy.port);
  through.statement_timeout = std::chrono::seconds{2};
  Ledger frozen{through, &sessions};
  proxy.freezing = true;
  v1::ReserveRequest request;
  *request.mutable_claim() = claimed.claim();
  request.set_family("ipv4");
  auto lost = std::async(std::launch::async, [&] { return frozen.reserve(request); });
  while (proxy.frozen == 0) {
    ASSERT_NE(lost.wait_for(std::chrono::milliseconds{1}), std::future_status::ready);
  }

  int doubts = 0;
  const auto reserved = retried([&] { return ledger->reserve(request); }, doubts);
  EXPECT_FALSE(reserved.address().empty());
  EXPECT_THROW(lost.get(), LedgerError);
  EXPECT_EQ(ledger->reserve(request).address(), reserved.address()) << "held once";
}

TEST_F(LedgerFaultsTest, ATransactionThatMetADeadlockIsRunAgainAndIsNoInternalErrorAtLast) {
  Store store{settings};
  for (const std::string state : {"40P01", "40001"}) {
    int runs = 0;
    const auto meets = [&](int times) {
      runs = 0;
      return store.as_owner([&, times](pqxx::dbtransaction& tx) {
        if (++runs <= times)
          tx.exec("DO $$ BEGIN RAISE 'met' USING ERRCODE = '" + state + "'; END $$");
        return runs;
      });
    };
    EXPECT_EQ(meets(2), 3) << state;
    EXPECT_EQ(code_of([&] { meets(1'000); }), ErrorCode::kUnavailable) << state;
    EXPECT_EQ(runs, kMostAttempts) << state;
  }
}

TEST_F(LedgerFaultsTest, AnUnreachableDatabaseIsARetryableErrorWithoutTheUrl) {
  settings.url = with_port(database_url(), 1) + "?password=hunter2";
  Ledger unreachable{settings};
  try {
    unreachable.view(service("s"));
    FAIL() << "there is nobody at that port";
  } catch (const LedgerError& error) {
    EXPECT_TRUE(error.retryable());
    EXPECT_FALSE(error.in_doubt());
    EXPECT_EQ(std::string{error.what()}.find("hunter2"), std::string::npos) << error.what();
  }
}

TEST_F(LedgerFaultsTest, TheHoldTimeOpensTheGateWhenNothingElseDoes) {
  auto spec = pool_spec("198.51.100.0/29");
  spec.hold_time = std::chrono::seconds{0};
  spec.quarantine = std::chrono::hours{1};
  ledger->add_pool(spec);
  const auto address = allocate("s", "k", true);
  const auto opened = gate(revoke("s", "r", "timeout"));
  EXPECT_TRUE(opened.open());
  EXPECT_EQ(opened.evidence(), "hold_time");
  auto stranger = ask("allocate", "x", "k");
  stranger.set_requested_address(address);
  EXPECT_EQ(code_of([&] { ledger->claim(stranger); }), ErrorCode::kAddressTaken);  // quarantine
  expect_clean();
}

TEST_F(LedgerFaultsTest, NoHoldTimeOpensTheGateWhileAccountingCannotBeRead) {
  settings.pace.set_gate_poll_ms(2'000);
  ledger = std::make_unique<Ledger>(settings, &sessions);
  auto spec = pool_spec("198.51.100.0/29");
  spec.hold_time = std::chrono::seconds{0};
  ledger->add_pool(spec);
  const auto address = allocate("s", "k", true);
  const auto claim = revoke("s", "r", "timeout");
  const auto now = std::chrono::system_clock::now();
  sessions.seen.open = {{.username = tenant + "-s",
                         .nas_ip = "127.0.0.1",
                         .framed_ip = address,
                         .started = now,
                         .updated = now + std::chrono::minutes{1}}};
  EXPECT_FALSE(gate(claim).open()) << "a session that is alive shows it";
  sessions.away = true;
  const auto blind = gate(claim);
  EXPECT_FALSE(blind.open()) << "the session may be there";
  EXPECT_NE(blind.detail().find("accounting cannot be reached"), std::string::npos)
      << blind.detail();
  EXPECT_EQ(blind.next_check_ms(), 2'000) << "it is looked at again";
  sessions.away = false;
  EXPECT_FALSE(gate(claim).open());
  sessions.seen.open.clear();
  EXPECT_EQ(gate(claim).evidence(), "hold_time");
  expect_clean();
}

TEST_F(LedgerFaultsTest, NoHoldTimeOpensTheGateOnALiveSessionThatShowsNoSpace) {
  auto spec = pool_spec("198.51.100.0/29");
  spec.hold_time = std::chrono::seconds{0};
  ledger->add_pool(spec);
  allocate("s", "k", true);
  const auto claim = revoke("s", "r", "timeout");
  const auto now = std::chrono::system_clock::now();
  ports::Session session{.username = tenant + "-s",
                         .nas_ip = "127.0.0.1",
                         .started = now,
                         .updated = now + std::chrono::minutes{1}};
  sessions.seen.open = {session};
  EXPECT_FALSE(gate(claim).open()) << "its NAS does not account what it has";
  session.username = "somebody-else";
  sessions.seen.open = {session};
  EXPECT_EQ(gate(claim).evidence(), "hold_time");
  expect_clean();
}

TEST_F(LedgerFaultsTest, NoSpaceIsHeldForLessThanTheLongestLease) {
  const auto holds = [&](const std::string& name) {
    return sql(
               fmt::format("SELECT hold_time_s FROM ip_pools WHERE tenant_id = '{}' AND"
                           " pool_name = '{}'",
                           tenant, name))[0][0]
        .as<std::int64_t>();
  };
  auto spec = pool_spec("198.51.100.0/29");
  ledger->add_pool(spec);
  EXPECT_EQ(holds("main"), 86'400);
  const auto address = allocate("s", "k", true);
  const auto claim = revoke("s", "r");

  settings.longest_lease = std::chrono::hours{24 * 7};
  ledger = std::make_unique<Ledger>(settings, &sessions);
  spec.name = "week";
  spec.prefix = "198.51.100.8/29";
  spec.hold_time = std::chrono::hours{24};
  EXPECT_EQ(code_of([&] { ledger->add_pool(spec); }), ErrorCode::kInvalidArgument);
  spec.hold_time = settings.longest_lease;
  ledger->add_pool(spec);
  EXPECT_EQ(holds("week"), 7 * 86'400);

  // A Disconnect-ACK and a hold time that is over say nothing of a session that may live on.
  const auto age = [&](const std::string& by) {
    sql(
        fmt::format("UPDATE holdings SET releasing_since = releasing_since - interval '{0}' WHERE"
                    " tenant_id = '{1}' AND releasing; UPDATE effects SET updated_at = updated_at -"
                    " interval '{0}', planned_at = planned_at - interval '{0}' WHERE"
                    " tenant_id = '{1}'",
                    by, tenant));
  };
  age("2 days");
  sessions.seen.nas_last_heard = std::chrono::system_clock::now() + std::chrono::hours{1};
  const auto soon = gate(claim);
  EXPECT_FALSE(soon.open()) << soon.evidence() << soon.detail();
  age("6 days");
  EXPECT_TRUE(gate(claim).open());
}

TEST_F(LedgerFaultsTest, TheSameAddressInAnotherRoutingDomainDoesNotKeepTheGateShut) {
  auto spec = pool_spec("198.51.100.0/29");
  spec.hold_time = std::chrono::seconds{0};
  ledger->add_pool(spec);
  const auto address = allocate("s", "k", true);
  const std::string mine = std::exchange(tenant, tenant + "-guest");
  ledger->add_tenant(tenant);
  pool("198.51.100.0/29");
  ASSERT_EQ(allocate("s", "k", true), address);
  const std::string guest = std::exchange(tenant, mine);
  const auto now = std::chrono::system_clock::now();
  sessions.seen.open = {{.username = "nobody-knows",
                         .nas_ip = "127.0.0.1",
                         .framed_ip = address,
                         .started = now,
                         .updated = now + std::chrono::minutes{1}}};
  const auto left = revoke("s", "r", "timeout");
  EXPECT_FALSE(gate(left).open()) << "whoever that is uses it";
  sessions.seen.open[0].username = guest + "-s";
  const auto opened = gate(left);
  EXPECT_TRUE(opened.open()) << opened.detail();
}

TEST_F(LedgerFaultsTest, AnAddressThatAaaNeverSawIsFreeAtOnce) {
  auto spec = pool_spec("198.51.100.0/29");
  spec.hold_time = std::chrono::hours{24};
  ledger->add_pool(spec);
  const auto address = allocate("s", "k");  // its AAA effect was never sent
  const auto claimed = ledger->claim(ask("revoke", "s", "r"));
  ledger->transition(to(claimed.claim(), "revoking"));
  finish(claimed.claim());
  const auto opened = gate(claimed.claim());
  EXPECT_TRUE(opened.open());
  EXPECT_EQ(opened.evidence(), "strong");
  auto stranger = ask("allocate", "x", "k");
  stranger.set_requested_address(address);
  const auto taken = ledger->claim(stranger);
  EXPECT_EQ(reserve(taken.claim(), address).address(), address);
}

TEST_F(LedgerFaultsTest, WhatAPersonForcesIsFreedAtOnceButRestsForTheLongestTime) {
  auto spec = pool_spec("198.51.100.0/29");
  spec.hold_time = std::chrono::hours{24};
  spec.quarantine = std::chrono::seconds{0};
  ledger->add_pool(spec);
  const auto address = allocate("s", "k", true);
  EXPECT_FALSE(gate(revoke("s", "r", "timeout")).open());
  auto request = ask("force_release", "s", "f");
  request.mutable_caller()->set_reason("the BNG is scrap");
  const auto claimed = ledger->claim(request);
  auto move = to(claimed.claim(), "revoked");
  move.set_plan_aaa(false);
  ledger->transition(move);
  finish(claimed.claim());
  const auto opened = gate(claimed.claim());
  EXPECT_TRUE(opened.open());
  EXPECT_EQ(opened.evidence(), "forced");
  auto stranger = ask("allocate", "x", "k");
  stranger.set_requested_address(address);
  EXPECT_EQ(code_of([&] { ledger->claim(stranger); }), ErrorCode::kAddressTaken);
  expect_clean();
}

TEST_F(LedgerFaultsTest, SpaceKeptForItsSubscriberGoesToNobodyElse) {
  pool("198.51.100.0/29");
  const auto address = allocate("s", "k", true);
  const auto claimed = ledger->claim(ask("revoke", "s", "r"));
  auto move = to(claimed.claim(), "revoking");
  move.set_keep_for_subscriber(true);
  send(claimed.claim(), ledger->transition(move).aaa());
  finish(claimed.claim());
  sessions.seen.stopped_since = true;
  EXPECT_TRUE(gate(claimed.claim()).open());  // nothing is left to wait for
  EXPECT_TRUE(ledger->view(service("s")).bindings(0).space_held());
  auto stranger = ask("allocate", "x", "k");
  stranger.set_requested_address(address);
  EXPECT_EQ(code_of([&] { ledger->claim(stranger); }), ErrorCode::kAddressTaken);
  EXPECT_EQ(allocate("s", "k2"), address);
  expect_clean();
}

TEST_F(LedgerFaultsTest, AfterTheFloorADisconnectAckWithFreshAccountingIsMediumEvidence) {
  ports::NasRecord nas = nas_record("192.0.2.1");
  nas.interim_interval = std::chrono::seconds{1};
  ledger->add_nas(nas);
  pool("198.51.100.0/29");
  allocate("s", "k", true);
  auto request = ask("revoke", "s", "r");
  request.set_nas_ip(nas.nas_ip);
  const auto claimed = ledger->claim(request);
  auto move = to(claimed.claim(), "revoking");
  move.set_plan_radius("disconnect");
  const auto moved = ledger->transition(move);
  send(claimed.claim(), moved.aaa());
  send(claimed.claim(), moved.radius(), "ack");
  finish(claimed.claim());
  sessions.seen.nas_last_heard = std::chrono::system_clock::now() + std::chrono::minutes{1};
  EXPECT_FALSE(gate(claimed.claim()).open());  // the floor: two interim intervals
  {
    // As if the Disconnect-ACK had come long ago.
    pqxx::connection connection{database_url()};
    pqxx::work tx{connection};
    tx.exec_params("UPDATE effects SET updated_at = updated_at - interval '1 hour' WHERE id = $1",
                   moved.radius().effect_id());
    tx.commit();
  }
  const auto opened = gate(claimed.claim());
  EXPECT_TRUE(opened.open());
  EXPECT_EQ(opened.evidence(), "medium");
}

TEST_F(LedgerFaultsTest, AnAddressThatNetBoxCallsTakenIsBlockedAndAnotherOneGiven) {
  pool("198.51.100.0/29");
  const auto claimed = ledger->claim(ask("allocate", "s", "k"));
  const auto first = reserve(claimed.claim());
  v1::ReserveRequest again;
  *again.mutable_claim() = claimed.claim();
  again.set_family("ipv4");
  again.add_avoid(first.address());
  const auto second = ledger->reserve(again);
  EXPECT_NE(second.address(), first.address());
  EXPECT_EQ(ledger->reserve(again).address(), second.address());  // a repeated step
  ledger->transition(to(claimed.claim(), "allocated"));
  finish(claimed.claim());
  auto stranger = ask("allocate", "x", "k");
  stranger.set_requested_address(first.address());
  EXPECT_EQ(code_of([&] { ledger->claim(stranger); }), ErrorCode::kAddressTaken);
  expect_clean();
}

TEST_F(LedgerFaultsTest, SixteenThreadsThatAllocateAndRevokeNeverShareAnAddress) {
  auto spec = pool_spec("198.51.100.0/27");
  spec.hold_time = spec.quarantine = std::chrono::seconds{0};
  ledger->add_pool(spec);
  std::mutex mutex;
  std::set<std::string> held;
  std::atomic<int> rounds = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 16; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937 random(static_cast<unsigned>(t));
      for (int i = 0; i < 12; ++i) {
        const std::string subscriber = fmt::format("s{}-{}", t, random() % 2);
        const auto address = allocate(subscriber, fmt::format("a{}", i), true);
        {
          const std::lock_guard lock{mutex};
          EXPECT_TRUE(held.insert(address).second) << address << " is held twice";
        }
        const auto claimed = ledger->claim(ask("revoke", subscriber, fmt::format("r{}", i)));
        send(claimed.claim(), ledger->transition(to(claimed.claim(), "revoking")).aaa());
        finish(claimed.claim());
        {
          const std::lock_guard lock{mutex};
          held.erase(address);  // from here on the ledger may give it to another
        }
        EXPECT_TRUE(gate(claimed.claim()).open());
        ++rounds;
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(rounds, 16 * 12);
  expect_clean();
}

}  // namespace
}  // namespace addrflow::ledger
