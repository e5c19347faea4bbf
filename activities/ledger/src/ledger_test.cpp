// The ledger on a real PostgreSQL.
#include <fmt/format.h>
#include <addrflow/ledger/migrator.hpp>
#include <atomic>
#include <mutex>
#include <set>
#include <thread>

#include "ledger_fixture.hpp"

namespace addrflow::ledger {
namespace {

TEST_F(LedgerTest, MigrationsGoUpAndDownAndUp) {
  const std::string base = testing::need_peer("ADDRFLOW_TEST_PG_URL");
  const std::string name = fmt::format("migrate_test_{}", ::getpid());
  {
    pqxx::connection connection{base};
    pqxx::nontransaction{connection}.exec("CREATE DATABASE " + name);
  }
  Migrator migrator{base.substr(0, base.rfind('/') + 1) + name};
  EXPECT_FALSE(migrator.up(true).empty());
  EXPECT_FALSE(migrator.up().empty());
  EXPECT_TRUE(migrator.up().empty());
  EXPECT_EQ(migrator.down(1).size(), 1U);
  EXPECT_FALSE(migrator.up().empty());
}

TEST_F(LedgerTest, TwoHundredAtOnceGetTwoHundredAddresses) {
  pool();
  std::mutex mutex;
  std::set<std::string> addresses;
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 25; ++i) {
        const auto address = allocate(fmt::format("s{}-{}", t, i), "k");
        const std::lock_guard lock{mutex};
        addresses.insert(address);
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(addresses.size(), 200U);
  expect_clean();
}

TEST_F(LedgerTest, TenMoreThanThePoolHasAreExactlyTenRefused) {
  ASSERT_EQ(pool("198.51.100.0/27").total, 30);
  std::atomic<int> refused = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 5; ++i) {
        const auto claimed = ledger->claim(ask("allocate", fmt::format("s{}-{}", t, i), "k"));
        try {
          reserve(claimed.claim());
        } catch (const LedgerError& error) {
          EXPECT_EQ(error.code(), ErrorCode::kPoolExhausted);
          EXPECT_STREQ(error.what(), "No available IP addresses");
          ++refused;
        }
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(refused, 10);
}

TEST_F(LedgerTest, AKeyIsOneOperationForEver) {
  pool();
  const auto address = allocate("s", "k");
  const auto again = ledger->claim(ask("allocate", "s", "k"));
  EXPECT_EQ(again.outcome(), "recorded");
  EXPECT_EQ(again.result().address(), address);
  auto other = ask("allocate", "s", "k");
  other.set_request_hash("another");
  EXPECT_EQ(code_of([&] { ledger->claim(other); }), ErrorCode::kKeyReused);
}

TEST_F(LedgerTest, AnOpenOperationAndItsStepsAnswerAsBefore) {
  pool();
  const auto first = ledger->claim(ask("allocate", "s", "k"));
  const auto reserved = reserve(first.claim());
  const auto second = ledger->claim(ask("allocate", "s", "k"));
  EXPECT_EQ(second.outcome(), "claimed");
  EXPECT_EQ(second.claim().number(), first.claim().number());
  EXPECT_EQ(reserve(second.claim()).address(), reserved.address());
}

TEST_F(LedgerTest, AStaleNumberIsRefusedEverywhere) {
  pool();
  const auto old = ledger->claim(ask("allocate", "s", "k1")).claim();
  reserve(old);
  const auto taken_over = ledger->claim(ask("allocate", "s", "k2"));
  EXPECT_EQ(taken_over.outcome(), "claimed");
  EXPECT_EQ(code_of([&] { reserve(old); }), ErrorCode::kSuperseded);
  EXPECT_EQ(code_of([&] { ledger->transition(to(old, "allocated")); }), ErrorCode::kSuperseded);
  v1::UndoRequest undo;
  *undo.mutable_claim() = old;
  EXPECT_EQ(code_of([&] { ledger->undo(undo); }), ErrorCode::kSuperseded);
}

TEST_F(LedgerTest, AnUndoTakesBackOnlyWhatItsOwnOperationMade) {
  pool();
  const auto address = allocate("s", "k");
  const auto activate = ledger->claim(ask("activate", "s", "k2")).claim();
  ledger->transition(to(activate, "active"));
  v1::UndoRequest undo;
  *undo.mutable_claim() = activate;
  const auto undone = ledger->undo(undo);
  ASSERT_EQ(undone.view().bindings_size(), 1);
  EXPECT_EQ(undone.view().bindings(0).state(), "allocated");
  EXPECT_EQ(undone.view().bindings(0).address(), address);
  finish(activate, false);

  const auto failed = ledger->claim(ask("allocate", "x", "k")).claim();
  reserve(failed);
  *undo.mutable_claim() = failed;
  EXPECT_EQ(ledger->undo(undo).view().bindings_size(), 0);
  finish(failed, false);
  expect_clean();
}

TEST_F(LedgerTest, BadInputIsRefusedAndNamesTheField) {
  EXPECT_EQ(code_of([&] { ledger->claim(ask("allocate", "s", "k")); }), ErrorCode::kNoSuchPool);
  pool();
  const auto held = allocate("holder", "k");
  const auto with = [&](const std::string& address) {
    auto request = ask("allocate", "s", "k" + address);
    request.set_requested_address(address);
    return code_of([&] { ledger->claim(request); });
  };
  EXPECT_EQ(with("10.0.0.1"), ErrorCode::kAddressOutsidePool);
  EXPECT_EQ(with(held), ErrorCode::kAddressTaken);
  EXPECT_EQ(with("nonsense"), ErrorCode::kInvalidArgument);
  auto unknown = ask("allocate", "s", "k");
  unknown.set_nas_ip("192.0.2.9");
  EXPECT_EQ(code_of([&] { ledger->claim(unknown); }), ErrorCode::kUnknownNas);
  EXPECT_EQ(code_of([&] { ledger->claim(ask("suspend", "s", "k")); }), ErrorCode::kNotFound);
  EXPECT_EQ(code_of([&] { ledger->claim(ask("suspend", "holder", "k9")); }),
            ErrorCode::kIllegalTransition);
  EXPECT_EQ(ledger->view(service("s")).number(), 0);
}

TEST_F(LedgerTest, TheGateStaysShutWithoutProofAndOpensWithAStop) {
  pool("198.51.100.0/29");
  const auto address = allocate("s", "k", true);
  const auto claim = revoke("s", "r", "timeout");
  EXPECT_FALSE(gate(claim).open());  // the Disconnect was never answered
  sessions.seen.open.push_back({});
  EXPECT_FALSE(gate(claim).open());  // a session somewhere
  sessions.seen = {};
  sessions.seen.stopped_since = true;
  const auto opened = gate(claim);
  EXPECT_TRUE(opened.open());
  EXPECT_EQ(opened.evidence(), "strong");
  // In quarantine: nobody else, but its former holder at once.
  auto stranger = ask("allocate", "x", "k");
  stranger.set_requested_address(address);
  EXPECT_EQ(code_of([&] { ledger->claim(stranger); }), ErrorCode::kAddressTaken);
  EXPECT_EQ(allocate("s", "k2"), address);
  expect_clean();
}

TEST_F(LedgerTest, ADisconnectWithoutAnswerIsSettledByTheStopThatOpensTheGate) {
  pool();
  allocate("s", "k", true);
  const auto claim = revoke("s", "r", "timeout");
  ASSERT_EQ(ledger->view(service("s")).unconfirmed_size(), 1);
  const auto disconnect = ledger->view(service("s")).unconfirmed(0);
  gate(claim);
  EXPECT_EQ(ledger->view(service("s")).unconfirmed_size(), 1) << "the gate is shut: still wanted";
  sessions.seen.stopped_since = true;
  sessions.seen.stop = "session S1 at 192.0.2.1";
  EXPECT_TRUE(gate(claim).open());
  const auto view = ledger->view(service("s"));
  EXPECT_EQ(view.unconfirmed_size(), 0);
  EXPECT_EQ(view.enforcement(), "confirmed");
  EXPECT_EQ(view.bindings(0).state(), "revoked");

  // The answer of an attempt that was under way changes nothing, and a repeat is not sent.
  v1::EffectRequest request;
  *request.mutable_service() = service("s");
  request.set_number(claim.number());
  request.mutable_effect()->set_effect_id(disconnect.effect_id());
  v1::EffectReply late;
  late.set_status("unknown");
  ledger->finish(request, 1, late);
  const auto leave = ledger->begin(request, std::chrono::seconds{1});
  EXPECT_EQ(leave.kind, ports::Leave::Kind::kRecorded);
  EXPECT_EQ(leave.recorded.status(), "not_applicable");
  EXPECT_NE(leave.recorded.detail().find("session S1"), std::string::npos)
      << leave.recorded.detail();
  expect_clean();
}

TEST_F(LedgerTest, ADisconnectAckIsNoProofWhileAccountingIsStale) {
  pool();
  allocate("s", "k", true);
  const auto claim = revoke("s", "r");
  EXPECT_FALSE(gate(claim).open());
  sessions.seen.nas_last_heard = std::chrono::system_clock::now() - std::chrono::hours{1};
  EXPECT_FALSE(gate(claim).open());
  sessions.seen.nas_last_heard = std::chrono::system_clock::now();
  const auto floor = gate(claim);
  EXPECT_FALSE(floor.open());  // the floor of two interim intervals
  EXPECT_TRUE(floor.view().bindings(0).space_held());
}

TEST_F(LedgerTest, AGateThatHasBeenShutForLongIsLookedAtSeldom) {
  settings.pace.set_gate_poll_ms(2'000);
  settings.pace.set_gate_poll_max_ms(600'000);
  ledger = std::make_unique<Ledger>(settings, &sessions);
  pool();
  allocate("s", "k", true);
  const auto claim = revoke("s", "r", "timeout");
  const auto look_after = [&](const std::string& waited) {
    sql("UPDATE holdings SET releasing_since = clock_timestamp() - interval '" + waited +
        "' WHERE releasing AND tenant_id = '" + tenant + "'");
    return gate(claim).next_check_ms();
  };
  EXPECT_EQ(look_after("1 second"), 2'000);
  const auto minute = look_after("60 seconds");
  EXPECT_GE(minute, 15'000);
  EXPECT_LT(minute, 20'000);
  EXPECT_EQ(look_after("12 hours"), 600'000);
  // And not a moment later than the end of the hold time.
  EXPECT_LT(look_after("23 hours 59 minutes"), 61'000);
}

TEST_F(LedgerTest, OneTenantNeitherSeesNorMovesTheOthersRows) {
  pool();
  allocate("s", "k");
  pqxx::connection connection{database_url()};
  pqxx::work tx{connection};
  tx.exec("SELECT set_config('role', 'addrflow_app', true), set_config('app.tenant', 'b', true)");
  for (const char* table : {"services", "holdings", "ip_reservations", "operations", "effects",
                            "audit_log", "ip_pools", "pool_addresses", "tenants"}) {
    EXPECT_EQ(tx.exec(fmt::format("SELECT count(*) FROM {}", table))[0][0].as<int>(), 0) << table;
  }
  EXPECT_EQ(tx.exec("UPDATE services SET number = 99").affected_rows(), 0U);
  EXPECT_THROW(tx.exec_params("INSERT INTO services (tenant_id, subscriber_id, service)"
                              " VALUES ($1, 'x', 'y')",
                              tenant),
               pqxx::sql_error);
}

TEST_F(LedgerTest, TheAuditNamesAPlantedViolation) {
  pool();
  const auto address = allocate("s", "k");
  pqxx::connection connection{database_url()};
  const auto set = [&](const std::string& state) {
    pqxx::work tx{connection};
    tx.exec_params(
        "UPDATE pool_addresses SET state = $1 WHERE address = $2::inet AND pool_id IN"
        " (SELECT id FROM ip_pools WHERE tenant_id = $3)",
        state, address, tenant);
    tx.commit();
  };
  set("free");
  const auto report = ledger->audit();
  ASSERT_EQ(report.result, AuditReport::Result::kViolated);
  EXPECT_EQ(report.violations.front().invariant, "I7");
  set("held");
  expect_clean();
}

}  // namespace
}  // namespace addrflow::ledger
