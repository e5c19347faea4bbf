// Lines that come back before their space went back to its pool, of either family.
#include <gmock/gmock.h>

#include "ledger_fixture.hpp"

namespace addrflow::ledger {
namespace {

using ::testing::HasSubstr;

constexpr const char* kHere = "192.0.2.1";
constexpr const char* kThere = "192.0.2.2";

class Returning : public EitherFamilyTest {
 protected:
  void SetUp() override {
    LedgerTest::SetUp();
    if (IsSkipped()) return;
    for (const char* nas : {kHere, kThere}) ledger->add_nas(nas_record(nas));
    add_space("here", "203.0.113.0/25", "2001:db8:1::/48", {kHere});
    add_space("there", "203.0.113.128/25", "2001:db8:2::/48", {kThere});
    add_space("anywhere", "198.51.100.0/24", "2001:db8:3::/48");
  }

  v1::ClaimRequest ask_for(const std::string& operation) {
    auto request = ask(operation, "s", operation + std::to_string(++keys_));
    request.add_families(family());
    return request;
  }
  v1::ClaimRequest coming(const std::string& nas, const std::string& pool = {},
                          const std::string& space = {}) {
    auto request = ask_for("allocate");
    request.set_nas_ip(nas);
    ipv4() ? request.set_ipv4_pool_id(pool) : request.set_ipv6_pool_id(pool);
    ipv4() ? request.set_requested_address(space) : request.set_requested_prefix(space);
    return request;
  }
  v1::ReserveRequest wanted(const v1::ClaimRequest& request, const v1::Claim& of) const {
    v1::ReserveRequest reserve;
    *reserve.mutable_claim() = of;
    reserve.set_family(family());
    reserve.set_pool_id(ipv4() ? request.ipv4_pool_id() : request.ipv6_pool_id());
    reserve.set_requested_address(ipv4() ? request.requested_address()
                                         : request.requested_prefix());
    return reserve;
  }
  void operate(const v1::TransitionRequest& wish) {
    const auto moved = ledger->transition(wish);
    if (moved.aaa().effect_id() != 0) send(claim, moved.aaa());
    if (moved.radius().effect_id() != 0) send(claim, moved.radius(), "ack");
    finish(claim);
  }

  std::string come(const v1::ClaimRequest& request) {
    claim = ledger->claim(request).claim();
    const auto space = ledger->reserve(wanted(request, claim)).address();
    operate(move(claim, "allocated"));
    return space;
  }
  void go(bool keeps = false, bool answered = true) {
    claim = ledger->claim(ask_for("revoke")).claim();
    auto wish = move(claim, "revoking");
    wish.set_plan_radius("disconnect");
    wish.set_keep_for_subscriber(keeps);
    const auto moved = ledger->transition(wish);
    send(claim, moved.aaa());
    send(claim, moved.radius(), answered ? "ack" : "timeout", answered ? "confirmed" : "unknown");
    finish(claim);
  }
  v1::GateReply look() {
    v1::GateRequest request;
    *request.mutable_service() = service("s");
    request.set_number(claim.number());
    request.add_families(family());
    return ledger->gate(request);
  }

  v1::BindingView binding() { return ledger->view(service("s")).bindings(0); }
  std::string holdings() {
    return sql(
               fmt::format("SELECT coalesce(string_agg(abbrev(space) || CASE WHEN kept THEN"
                           " ' kept' WHEN releasing THEN ' leaves' ELSE '' END, ', ' ORDER BY id),"
                           " '') FROM holdings WHERE tenant_id = '{}' AND upper_inf(period)",
                           tenant))[0][0]
        .c_str();
  }
  std::string refusal(const v1::ClaimRequest& request) {
    try {
      ledger->claim(request);
    } catch (const LedgerError& error) {
      EXPECT_EQ(error.code(), ErrorCode::kConflict);
      return error.what();
    }
    return "no error";
  }

  v1::Claim claim;
  const By by{.actor = "ann", .reason = "renumbering"};

 private:
  int keys_ = 0;
};

INSTANTIATE_TEST_SUITE_P(Families, Returning, ::testing::Values("ipv4", "ipv6_pd"),
                         [](const auto& one) { return one.param; });

TEST_P(Returning, WhereItWasItGetsItsSpaceAgain) {
  const auto former = come(coming(kHere));
  go();
  EXPECT_EQ(come(coming("")), former) << "where it was";
  go();
  EXPECT_EQ(come(coming(kHere, "anywhere,here")), former) << "one of several";
  EXPECT_EQ(holdings(), former);
  expect_clean();
}

TEST_P(Returning, AtAnotherSiteItGetsSpaceOfThatSiteAndTheFormerOneLeaves) {
  const auto former = come(coming(kHere));
  EXPECT_EQ(binding().pool(), "here");
  go();
  const auto other = come(coming(kThere));
  EXPECT_EQ(binding().pool(), "there");
  EXPECT_EQ(binding().state(), "allocated");
  EXPECT_EQ(holdings(), former + " leaves, " + other);
  ports::Session session;
  session.username = tenant + "-s";
  session.nas_ip = kHere;
  (ipv4() ? session.framed_ip : session.delegated_prefix) = former;
  sessions.seen.open = {session};
  sessions.seen.stopped_since = true;
  EXPECT_FALSE(look().open()) << "a session shows it";
  EXPECT_EQ(holdings(), former + " leaves, " + other);
  sessions.seen.open.clear();
  EXPECT_TRUE(look().open());
  EXPECT_EQ(holdings(), other);
  EXPECT_EQ(binding().state(), "allocated");
  expect_clean();
}

TEST_P(Returning, SpaceOfAnyPoolIsTakenAlongUnlessAnotherPoolIsNamed) {
  const auto former = come(coming(kHere, "anywhere"));
  go();
  EXPECT_EQ(come(coming(kThere)), former) << "its pool serves every NAS";
  go();
  const auto other = come(coming(kThere, "there"));
  EXPECT_EQ(binding().pool(), "there");
  EXPECT_EQ(holdings(), former + " leaves, " + other);
  go();
  EXPECT_EQ(code_of([&] { ledger->claim(coming(kThere, "nowhere")); }), ErrorCode::kNoSuchPool);
}

TEST_P(Returning, SpaceThatIsGivenUpIsNotTakenUpAgain) {
  const auto former = come(coming(kHere));
  go();
  ledger->exclude_space(tenant, "here", former, true, by);
  const auto other = come(coming(kHere));
  EXPECT_NE(other, former);
  EXPECT_EQ(binding().pool(), "here");
  go();
  ledger->drain_pool(tenant, "here", true, by);
  come(coming(kHere));
  EXPECT_EQ(binding().pool(), "anywhere");
  EXPECT_THAT(holdings(), HasSubstr(former + " leaves, " + other + " leaves, "));
  sessions.seen.stopped_since = true;
  EXPECT_TRUE(look().open());
  expect_clean();
}

TEST_P(Returning, ItsSpaceByNameIsAConflictWhereItDoesNotServe) {
  const auto former = come(coming(kHere));
  go();
  EXPECT_THAT(refusal(coming(kThere, "", former)), HasSubstr("nas_ip: pool here"));
  const char* field = ipv4() ? "ipv4_pool_id: " : "ipv6_pool_id: ";
  EXPECT_THAT(refusal(coming(kHere, "anywhere", former)), HasSubstr(field + former));
  EXPECT_THAT(refusal(coming(kThere, "", ipv4() ? "203.0.113.200" : "2001:db8:2:7700::/56")),
              HasSubstr("differs from the one held"));
  ledger->drain_pool(tenant, "here", true, by);
  EXPECT_EQ(come(coming(kHere, "", former)), former) << "nobody else would get it";
}

TEST_P(Returning, KeptSpaceLeavesWithTheOtherOneAndIsKeptAgainByTheUndo) {
  const auto former = come(coming(kHere));
  go(true);
  EXPECT_EQ(holdings(), former + " kept");
  const auto request = coming(kThere);
  claim = ledger->claim(request).claim();
  const auto other = ledger->reserve(wanted(request, claim)).address();
  EXPECT_EQ(holdings(), former + " leaves, " + other);
  v1::UndoRequest undo;
  *undo.mutable_claim() = claim;
  ledger->undo(undo);
  finish(claim, false);
  EXPECT_EQ(holdings(), former + " kept");
  EXPECT_EQ(come(coming(kHere)), former);
  expect_clean();
}

TEST_P(Returning, WhatNetboxOrARepeatedStepSaysLeavesTheFormerSpaceOnItsWay) {
  const auto former = come(coming(kHere));
  go();
  const auto request = coming(kThere);
  claim = ledger->claim(request).claim();
  auto wish = wanted(request, claim);
  const auto first = ledger->reserve(wish).address();
  EXPECT_EQ(ledger->reserve(wish).address(), first) << "a repeat";
  wish.add_avoid(first);
  const auto second = ledger->reserve(wish).address();
  EXPECT_NE(second, first);
  EXPECT_EQ(holdings(), former + " leaves, " + second);
  operate(move(claim, "allocated"));
  expect_clean();
}

TEST_P(Returning, ASessionThatWasNotCutIsCutWhenTheLineGetsOtherSpace) {
  come(coming(kHere));
  go(false, false);
  const auto request = coming(kThere);
  std::vector<std::string> plan;
  ledger->look(request.service(), [&](LedgerLook& look) {
    const auto claimed = look.claim(request);
    EXPECT_EQ(look.reserve(wanted(request, claimed.claim())).pool(), "there");
    look.transition(move(claimed.claim(), "allocated"));
    for (const auto& effect : look.effects()) {
      if (effect.system() == "radius") plan.push_back(effect.action());
      if (effect.action() != "reserve") continue;
      EXPECT_THAT(effect.changes(), ::testing::Contains(HasSubstr("through the release gate")));
    }
  });
  EXPECT_THAT(plan, ::testing::ElementsAre("disconnect"));
  claim = ledger->claim(request).claim();
  ledger->reserve(wanted(request, claim));
  const auto moved = ledger->transition(move(claim, "allocated"));
  EXPECT_EQ(moved.radius().action(), "disconnect");
  send(claim, moved.aaa());
  send(claim, moved.radius(), "ack");
  finish(claim);
  claim = ledger->claim(ask_for("activate")).claim();
  const auto active = ledger->transition(move(claim, "active"));
  EXPECT_EQ(active.radius().effect_id(), 0) << "it is cut";
  send(claim, active.aaa());
  finish(claim);
  expect_clean();
}

}  // namespace
}  // namespace addrflow::ledger
