// What a person does about a line that broke off: retry, adopt; and what an undo tells NetBox.
#include "ledger_fixture.hpp"

#include <gmock/gmock.h>
#include <addrflow/ledger/desk.hpp>

namespace addrflow::ledger {
namespace {

using ::testing::HasSubstr;

class Repair : public LedgerTest {
 protected:
  void SetUp() override {
    LedgerTest::SetUp();
    if (!IsSkipped()) desk = std::make_unique<Desk>(settings);
  }
  std::unique_ptr<Desk> desk;

  // As an undo that was not possible leaves it.
  void fail(const std::string& subscriber) {
    pqxx::connection connection{database_url()};
    pqxx::work tx{connection};
    tx.exec_params(
        "UPDATE ip_reservations SET lifecycle_state = 'failed' WHERE tenant_id = $1"
        " AND subscriber_id = $2",
        tenant, subscriber);
    tx.commit();
  }
  std::string state(const std::string& subscriber) {
    return ledger->view(service(subscriber)).bindings(0).state();
  }
  std::string netbox_action(std::int64_t id) { return desk->effect(id).effect().action(); }
};

TEST_F(Repair, AFailedBindingMayBeRetriedToTheStateThatItMissed) {
  pool();
  allocate("a", "k1");
  fail("a");
  const auto claimed = ledger->claim(ask("retry", "a", "k2"));
  ASSERT_EQ(claimed.outcome(), "claimed");
  EXPECT_EQ(claimed.view().bindings(0).state(), "failed");
  EXPECT_TRUE(claimed.view().bindings(0).has_allocated_at()) << "it is the activate that broke off";
  const auto moved = ledger->transition(to(claimed.claim(), "active"));
  send(claimed.claim(), moved.aaa());
  finish(claimed.claim());
  EXPECT_EQ(state("a"), "active");
  expect_clean();
}

TEST_F(Repair, APersonMayConfirmOnlyWhatTheLedgerCanBear) {
  pool();
  allocate("a", "k1");
  fail("a");
  const auto claimed = ledger->claim(ask("adopt", "a", "k2"));
  ASSERT_EQ(claimed.outcome(), "claimed");
  EXPECT_EQ(code_of([&] { ledger->transition(to(claimed.claim(), "revoked")); }),
            ErrorCode::kConflict);
  EXPECT_EQ(code_of([&] { ledger->transition(to(claimed.claim(), "failed")); }),
            ErrorCode::kInvalidArgument);
  EXPECT_EQ(code_of([&] { ledger->transition(to(claimed.claim(), "revoking")); }),
            ErrorCode::kInvalidArgument);
  const auto moved = ledger->transition(to(claimed.claim(), "active"));
  send(claimed.claim(), moved.aaa());
  finish(claimed.claim());
  EXPECT_EQ(state("a"), "active");
  expect_clean();
}

TEST_F(Repair, ALiveStateNeedsItsSpace) {
  pool();
  allocate("a", "k1");
  gate(revoke("a", "k2"));
  fail("a");
  const auto claimed = ledger->claim(ask("adopt", "a", "k3"));
  EXPECT_EQ(code_of([&] { ledger->transition(to(claimed.claim(), "active")); }),
            ErrorCode::kConflict);
  ledger->transition(to(claimed.claim(), "revoked"));
  finish(claimed.claim());
  EXPECT_EQ(state("a"), "revoked");
}

TEST_F(Repair, AnUndoneActivateTellsNetBoxThatTheLineIsReservedOnly) {
  auto spec = pool_spec();
  spec.netbox_mode = "mirror";
  ledger->add_pool(spec);
  allocate("a", "k1");
  const auto claimed = ledger->claim(ask("activate", "a", "k2"));
  auto move = to(claimed.claim(), "active");
  move.set_plan_netbox("set_active");
  const auto moved = ledger->transition(move);
  send(claimed.claim(), moved.netbox());
  v1::UndoRequest undo;
  *undo.mutable_claim() = claimed.claim();
  undo.set_code("coa_failed");
  undo.set_reason("the NAS said no");
  const auto undone = ledger->undo(undo);
  finish(claimed.claim(), false);
  EXPECT_EQ(state("a"), "allocated");
  ASSERT_NE(undone.netbox().effect_id(), 0);
  EXPECT_EQ(netbox_action(undone.netbox().effect_id()), "set_reserved");
  EXPECT_THAT(desk->effect(undone.netbox().effect_id()).wish_json(), HasSubstr("allocated"));
}

TEST_F(Repair, AnUndoneReaddressOfASuspendedLineTellsNetBoxThatItIsSuspended) {
  auto spec = pool_spec();
  spec.netbox_mode = "mirror";
  ledger->add_pool(spec);
  allocate("a", "k1");
  const auto active = ledger->claim(ask("activate", "a", "k2")).claim();
  ledger->transition(to(active, "active"));
  finish(active);
  const auto held = ledger->claim(ask("suspend", "a", "k3")).claim();
  auto move = to(held, "suspended");
  move.set_add_hold("billing");
  ledger->transition(move);
  finish(held);
  const auto claim = ledger->claim(ask("readdress", "a", "k4")).claim();
  v1::ReserveRequest request;
  *request.mutable_claim() = claim;
  request.set_family("ipv4");
  request.set_instead(true);
  ledger->reserve(request);
  v1::UndoRequest undo;
  *undo.mutable_claim() = claim;
  const auto undone = ledger->undo(undo);
  finish(claim, false);
  EXPECT_EQ(state("a"), "suspended");
  std::vector<std::string> actions{netbox_action(undone.netbox().effect_id())};
  for (const auto& effect : undone.more()) {
    if (effect.system() == "netbox") actions.push_back(netbox_action(effect.effect_id()));
  }
  EXPECT_THAT(actions, ::testing::Contains("suspend"));
  EXPECT_THAT(actions, ::testing::Not(::testing::Contains("set_active")));
}

}  // namespace
}  // namespace addrflow::ledger
