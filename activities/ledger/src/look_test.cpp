// Plans: what a look says is what the operation then does, and the look itself does nothing.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <tuple>

#include "ledger_fixture.hpp"

namespace addrflow::ledger {
namespace {

using ::testing::ElementsAreArray;
using ::testing::IsEmpty;
using ::testing::Not;

using Written = std::tuple<std::string, std::string, nlohmann::json>;  // system, action, wish

class LookTest : public LedgerTest {
 protected:
  void SetUp() override {
    LedgerTest::SetUp();
    PoolSpec spec = pool_spec();
    spec.netbox_mode = "mirror";
    ledger->add_pool(spec);
  }

  static v1::TransitionRequest change(const v1::Claim& claim, const std::string& state,
                                      const std::string& radius, const std::string& netbox) {
    v1::TransitionRequest move;
    *move.mutable_claim() = claim;
    move.add_families("ipv4");
    move.set_state(state);
    move.set_plan_aaa(true);
    move.set_plan_radius(radius);
    move.set_plan_netbox(netbox);
    if (state == "suspended") move.set_add_hold("billing");
    return move;
  }

  // One operation as its workflow does it, on the ledger or on a look at it.
  template <class On>
  void carry_out(On& on, const v1::ClaimRequest& request, const std::string& state,
                 const std::string& radius = "", const std::string& netbox = "") {
    const v1::ClaimReply claimed = on.claim(request);
    ASSERT_EQ(claimed.outcome(), "claimed");
    if (request.operation() == "allocate") {
      v1::ReserveRequest wanted;
      *wanted.mutable_claim() = claimed.claim();
      wanted.set_family("ipv4");
      on.reserve(wanted);
    }
    on.transition(change(claimed.claim(), state, radius, netbox));
    if constexpr (std::is_same_v<On, Ledger>) {
      confirm_all(claimed.claim());
      finish(claimed.claim());
    }
  }

  void confirm_all(const v1::Claim& claim) {
    for (const auto& effect : ledger->view(claim.service()).recent()) {
      v1::EffectRef ref;
      ref.set_effect_id(effect.effect_id());
      if (effect.status() == "planned") send(claim, ref);
    }
  }

  std::vector<Written> written(const std::string& subscriber) {
    pqxx::connection connection{database_url()};
    pqxx::nontransaction tx{connection};
    std::vector<Written> all;
    for (const auto& row :
         tx.exec_params("SELECT e.system, e.action, e.wish::text FROM effects e JOIN services s"
                        " ON s.id = e.service_id WHERE s.tenant_id = $1 AND s.subscriber_id = $2 "
                        "ORDER BY e.id",
                        tenant, subscriber))
      all.emplace_back(row[0].c_str(), row[1].c_str(), nlohmann::json::parse(row[2].c_str()));
    return all;
  }

  static std::vector<Written> planned(const LedgerLook& look) {
    std::vector<Written> all;
    for (const v1::PlannedEffect& effect : look.effects()) {
      if (!effect.wish().empty())
        all.emplace_back(effect.system(), effect.action(), nlohmann::json::parse(effect.wish()));
    }
    return all;
  }

  // Every row with who wrote and who locked it: a lock leaves its mark in xmax.
  std::string fingerprint() {
    pqxx::connection connection{database_url()};
    pqxx::nontransaction tx{connection};
    std::string all;
    for (const auto& table : tx.exec("SELECT relname FROM pg_class WHERE relkind = 'r'"
                                     " AND relnamespace = current_schema()::regnamespace"
                                     " ORDER BY relname")) {
      const auto row = tx.exec1(
          fmt::format("SELECT coalesce(md5(string_agg(concat(xmin, '/', xmax, '/', t::text), ','"
                      " ORDER BY ctid)), '') FROM {} t",
                      tx.quote_name(table[0].c_str())));
      all += fmt::format("{} {}\n", table[0].c_str(), row[0].c_str());
    }
    return all;
  }

  v1::ClaimRequest ask_for(const std::string& operation, const std::string& subscriber) {
    return ask(operation, subscriber, operation + "-" + std::to_string(++keys_));
  }

  int keys_ = 0;
};

TEST_F(LookTest, APlanNamesTheEffectsThatTheOperationsThenWriteDown) {
  std::vector<Written> plan;
  const auto life = [this](auto& on) {
    carry_out(on, ask("allocate", "anna", "a"), "allocated");
    carry_out(on, ask("activate", "anna", "b"), "active", "coa", "set_active");
    carry_out(on, ask("suspend", "anna", "c"), "suspended", "coa");
    carry_out(on, ask("revoke", "anna", "d"), "revoking", "disconnect", "deprecate");
  };
  ledger->look(service("anna"), [&](LedgerLook& look) {
    life(look);
    plan = planned(look);
  });
  EXPECT_THAT(written("anna"), IsEmpty());
  life(*ledger);
  std::vector<Written> done = written("anna");
  // NetBox names an object when it makes it, which a plan cannot know.
  for (auto& [system, action, wish] : done) {
    if (system == "netbox") wish["netbox_id"] = 0;
  }
  EXPECT_THAT(plan, ElementsAreArray(done));
  EXPECT_THAT(done, Not(IsEmpty()));
}

TEST_F(LookTest, APlanThatLeavesNetboxAloneNamesNothingOfIt) {
  auto request = ask_for("allocate", "anna");
  request.set_request_json(R"({"update_netbox": false})");
  ledger->look(service("anna"), [&](LedgerLook& look) {
    carry_out(look, request, "allocated");
    for (const auto& [system, action, wish] : planned(look)) EXPECT_EQ(system, "aaa");
    EXPECT_THAT(planned(look), Not(IsEmpty()));
  });
}

TEST_F(LookTest, AFormerHolderIsPromisedItsOldAddress) {
  const std::string former = allocate("anna", "a");
  const v1::Claim gone = revoke("anna", "r");
  ledger->look(service("anna"), [&](LedgerLook& look) {
    const auto claimed = look.claim(ask_for("allocate", "anna"));
    v1::ReserveRequest wanted;
    *wanted.mutable_claim() = claimed.claim();
    wanted.set_family("ipv4");
    EXPECT_EQ(look.reserve(wanted).address(), former);
  });
}

TEST_F(LookTest, ALookLocksNothingAndWritesNothing) {
  allocate("anna", "a");
  pqxx::connection other{database_url()};
  pqxx::work busy{other};  // has locked all that an allocation would lock
  busy.exec("SELECT 1 FROM services FOR UPDATE");
  busy.exec("SELECT 1 FROM pool_addresses FOR UPDATE");
  const std::string before = fingerprint();
  ledger->look(service("ben"), [&](LedgerLook& look) {
    carry_out(look, ask("allocate", "ben", "a"), "allocated");
    carry_out(look, ask("activate", "ben", "b"), "active", "coa", "set_active");
  });
  ledger->look(service("anna"), [&](LedgerLook& look) {
    carry_out(look, ask("revoke", "anna", "b"), "revoking", "disconnect", "deprecate");
  });
  EXPECT_EQ(fingerprint(), before);
}

TEST_F(LookTest, ALookIsRefusedAsTheOperationWouldBe) {
  const std::string held = allocate("anna", "a");
  const auto looked = [&](const v1::ClaimRequest& request) {
    return code_of(
        [&] { ledger->look(request.service(), [&](LedgerLook& look) { look.claim(request); }); });
  };
  const auto claimed = [&](const v1::ClaimRequest& request) {
    return code_of([&] { ledger->claim(request); });
  };
  std::vector<v1::ClaimRequest> wrong{ask("suspend", "anna", "x1"), ask("allocate", "ben", "x2"),
                                      ask("allocate", "ben", "x3"), ask("allocate", "ben", "x4"),
                                      ask("allocate", "ben", "x5"), ask("allocate", "anna", "a"),
                                      ask("allocate", "anna", "x6")};
  wrong[1].set_requested_address(held);
  wrong[2].set_requested_address("203.0.113.1");
  wrong[3].set_ipv4_pool_id("nowhere");
  wrong[4].set_username(wrong[0].username());
  wrong[5].set_request_hash("another");
  wrong[6].set_requested_address("198.51.100.77");
  for (const v1::ClaimRequest& request : wrong) {
    const ErrorCode code = looked(request);
    EXPECT_NE(code, ErrorCode::kOk) << request.caller().key();
    EXPECT_EQ(code, claimed(request)) << request.caller().key();
  }
}

TEST_F(LookTest, WhatAnotherRequestHasUnderWayIsNotGuessedAt) {
  ledger->claim(ask("allocate", "anna", "a"));
  const auto request = ask("allocate", "anna", "b");
  EXPECT_EQ(code_of([&] {
              ledger->look(request.service(), [&](LedgerLook& look) { look.claim(request); });
            }),
            ErrorCode::kUnavailable);
}

}  // namespace
}  // namespace addrflow::ledger
