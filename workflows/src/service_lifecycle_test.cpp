#include "testing/fake_ledger.hpp"
#include "testing/play.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <addrflow/workflows/registry.hpp>
#include <array>

namespace addrflow::workflows::testing {
namespace {

using domain::State;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr const char* kId = "service/acme/42/internet";

class Lifecycle : public ::testing::Test {
 protected:
  Lifecycle() : play(workflow_registry(), "ServiceLifecycle", kId) { ledger.plays_in(play); }

  template <class Request>
  static Request request(const std::string& key, const std::string& reason = {}) {
    Request request;
    request.mutable_caller()->set_key(key);
    request.mutable_caller()->set_reason(reason);
    return request;
  }
  v1::LifecycleResult answer(const std::string& id) {
    return play.update_result<v1::LifecycleResult>(id);
  }

  FakeLedger ledger;
  Play play;
};

TEST_F(Lifecycle, AllocateReservesThenWritesAaaAndEnds) {
  play.update("allocate:a", "allocate", request<v1::AllocateRequest>("a"));
  play.finish();
  const auto result = answer("allocate:a");
  EXPECT_TRUE(result.success()) << result.message();
  EXPECT_EQ(result.code(), "ok");
  EXPECT_EQ(result.operation(), "allocate");
  EXPECT_EQ(result.address(), "203.0.113.7");
  EXPECT_EQ(result.state(), "allocated");
  EXPECT_EQ(result.enforcement(), "confirmed");
  EXPECT_THAT(ledger.log, ElementsAre("netbox/reserve", "aaa/apply"));
  EXPECT_EQ(play.closing_command(), enums::COMMAND_TYPE_COMPLETE_WORKFLOW_EXECUTION);
  EXPECT_EQ(play.elapsed().count(), 0) << "nothing had to be waited for";
}

v1::AllocateRequest both_families(const std::string& key) {
  v1::AllocateRequest request;
  request.mutable_caller()->set_key(key);
  request.add_families("ipv4");
  request.add_families("ipv6_pd");
  request.set_ipv6_pd_size(56);
  return request;
}

TEST_F(Lifecycle, BothFamiliesComeInOneTransactionOfTheAaaRows) {
  play.update("allocate:a", "allocate", both_families("a"));
  play.finish();
  const auto result = answer("allocate:a");
  EXPECT_TRUE(result.success()) << result.message();
  EXPECT_EQ(result.address(), "203.0.113.7");
  EXPECT_EQ(result.prefix(), "2001:db8:1200::/56");
  EXPECT_THAT(ledger.log, ElementsAre("netbox/reserve", "aaa/apply"));
  ASSERT_EQ(ledger.moves.size(), 1U);
  EXPECT_THAT(ledger.moves[0].families(), ElementsAre("ipv4", "ipv6_pd"));
  EXPECT_EQ(ledger.reserved[1].prefix_length(), 56);
}

TEST_F(Lifecycle, NeitherFamilyIsLeftWhenOneCannotBeHad) {
  ledger.reserve_refusal = "pool_exhausted";
  ledger.reserve_refused_family = "ipv6_pd";
  play.update("allocate:a", "allocate", both_families("a"));
  play.finish();
  EXPECT_FALSE(answer("allocate:a").success());
  EXPECT_EQ(answer("allocate:a").code(), "pool_exhausted");
  ASSERT_EQ(ledger.undone.size(), 1U);
  EXPECT_EQ(ledger.undone[0].family(), "") << "all that the operation made";
  EXPECT_THAT(ledger.moves, IsEmpty());
}

TEST_F(Lifecycle, TheLineComesUpWithoutItsOptionalFamily) {
  ledger.reserve_refusal = "pool_exhausted";
  ledger.reserve_refused_family = "ipv6_pd";
  auto wanted = both_families("a");
  wanted.set_optional_family("ipv6_pd");
  play.update("allocate:a", "allocate", wanted);
  play.finish();
  const auto result = answer("allocate:a");
  EXPECT_TRUE(result.success());
  EXPECT_THAT(result.message(), HasSubstr("ipv6_pd is left out: No available IP addresses"));
  ASSERT_EQ(ledger.undone.size(), 1U);
  EXPECT_EQ(ledger.undone[0].family(), "ipv6_pd");
  ASSERT_EQ(ledger.moves.size(), 1U);
  EXPECT_THAT(ledger.moves[0].families(), ElementsAre("ipv4"));
}

TEST_F(Lifecycle, ARequestWithoutFamiliesMeansWhatTheLineHas) {
  ledger.netbox = false;
  ledger.state = State::kActive;
  ledger.state6 = State::kActive;
  play.update("suspend:s", "suspend", request<v1::SuspendRequest>("s", "billing"));
  play.finish();
  ASSERT_EQ(ledger.moves.size(), 1U);
  EXPECT_THAT(ledger.moves[0].families(), ElementsAre("ipv4", "ipv6_pd"));
  EXPECT_THAT(ledger.log, ElementsAre("aaa/apply", "radius/coa")) << "one session, one CoA";
}

TEST_F(Lifecycle, AnAnswerForIpv6AloneCarriesThePrefix) {
  ledger.state = State::kActive;
  ledger.state6 = State::kAllocated;
  auto wanted = request<v1::ActivateRequest>("a");
  wanted.add_families("ipv6_pd");
  play.update("activate:a", "activate", wanted);
  play.finish();
  const auto result = answer("activate:a");
  EXPECT_EQ(result.prefix(), "2001:db8:1200::/56");
  EXPECT_EQ(result.address(), "");
  EXPECT_EQ(result.state(), "active");
  ASSERT_EQ(ledger.moves.size(), 1U);
  EXPECT_THAT(ledger.moves[0].families(), ElementsAre("ipv6_pd"));
}

TEST_F(Lifecycle, TheGateOfOneFamilyIsWatchedOnWhenTheOtherMoves) {
  ledger.state = State::kRevoked;
  ledger.held = {"ipv4"};
  ledger.state6 = State::kActive;
  auto wanted = request<v1::SuspendRequest>("s", "billing");
  wanted.add_families("ipv6_pd");
  play.update("suspend:s", "suspend", wanted);
  play.finish();
  ASSERT_FALSE(ledger.looks.empty());
  EXPECT_THAT(ledger.looks.back().families(), ElementsAre("ipv4"));
  EXPECT_EQ(ledger.looks.back().number(), ledger.number) << "under the newest number";
}

TEST_F(Lifecycle, ARestingServiceEndsAtOnceWhenNothingIsPending) {
  play.finish();
  EXPECT_THAT(play.activities(), ElementsAre("ledger_pending"));
}

TEST_F(Lifecycle, AaaIsWrittenBeforeThePacketLeaves) {
  ledger.netbox = false;
  ledger.state = State::kActive;
  play.update("suspend:s", "suspend", request<v1::SuspendRequest>("s", "billing"));
  play.finish();
  EXPECT_THAT(ledger.log, ElementsAre("aaa/apply", "radius/coa"));
  const auto result = answer("suspend:s");
  EXPECT_EQ(result.state(), "suspended");
  EXPECT_TRUE(result.coa_result().success());
  EXPECT_EQ(result.coa_result().code(), "CoA-ACK");
  EXPECT_THAT(ledger.holds, ElementsAre("billing"));
}

TEST_F(Lifecycle, NoPacketLeavesWhileAaaIsNotWritten) {
  ledger.netbox = false;
  ledger.state = State::kActive;
  ledger.world["aaa/apply"] = [](int attempt) {
    return attempt < 3 ? effect_reply("unknown", "timeout", true) : effect_reply("confirmed");
  };
  play.update("suspend:s", "suspend", request<v1::SuspendRequest>("s", "billing"));
  play.finish();
  EXPECT_THAT(ledger.log, ElementsAre("aaa/apply", "aaa/apply", "aaa/apply", "radius/coa"));
}

TEST_F(Lifecycle, NoSessionIsSuccess) {
  ledger.state = State::kActive;
  ledger.world["radius/coa"] = [](int) { return effect_reply("not_applicable"); };
  play.update("suspend:s", "suspend", request<v1::SuspendRequest>("s"));
  play.finish();
  EXPECT_TRUE(answer("suspend:s").success());
  EXPECT_EQ(answer("suspend:s").coa_result().code(), "not-applicable");
  EXPECT_EQ(answer("suspend:s").enforcement(), "confirmed");
}

TEST_F(Lifecycle, TheAnswerOfANasHasTheSeedsWords) {
  const std::vector<std::array<std::string, 3>> cases{
      {"confirmed", "ack", "CoA-ACK"},
      {"refused", "nak-401", "CoA-NAK"},
      {"refused", "nak", "CoA-NAK"},
      {"not_applicable", "no-session", "not-applicable"},
      {"superseded", "superseded", "superseded"}};
  for (const auto& [status, code, words] : cases) {
    FakeLedger ledger_of_case;
    ledger_of_case.state = State::kActive;
    ledger_of_case.world["radius/coa"] = [&](int) { return effect_reply(status, code); };
    Play one(workflow_registry(), "ServiceLifecycle", kId);
    ledger_of_case.plays_in(one);
    one.update("suspend:s", "suspend", request<v1::SuspendRequest>("s"));
    one.finish();
    EXPECT_EQ(one.update_result<v1::LifecycleResult>("suspend:s").coa_result().code(), words);
  }
}

TEST_F(Lifecycle, ASlowNasIsAnsweredAsPendingAndPursued) {
  ledger.state = State::kActive;
  ledger.world["radius/coa"] = [](int attempt) {
    return attempt < 5 ? effect_reply("unknown", "timeout", true)
                       : effect_reply("confirmed", "CoA-ACK");
  };
  play.update("suspend:s", "suspend", request<v1::SuspendRequest>("s"));
  play.settle();
  EXPECT_FALSE(play.update_answered("suspend:s"));
  while (!play.update_answered("suspend:s") && play.advance()) {
  }
  const auto result = answer("suspend:s");
  EXPECT_TRUE(result.success());
  EXPECT_EQ(result.state(), "suspended");
  EXPECT_EQ(result.enforcement(), "pending");
  EXPECT_FALSE(play.closed());
  const auto status = play.query<v1::ServiceStatus>("status");
  ASSERT_EQ(status.pursuing_size(), 1);
  EXPECT_EQ(status.pursuing(0).action(), "coa");
  play.finish();
  EXPECT_EQ(std::ranges::count(ledger.log, "radius/coa"), 5);
}

TEST_F(Lifecycle, ANewerOperationEndsThePursuitOfTheOlder) {
  ledger.netbox = false;
  ledger.state = State::kActive;
  ledger.world["radius/coa"] = [](int) { return effect_reply("unknown", "timeout", true); };
  play.update("suspend:s", "suspend", request<v1::SuspendRequest>("s"));
  while (!play.update_answered("suspend:s") && play.advance()) {
  }
  ledger.world.clear();
  ledger.log.clear();
  play.update("reactivate:r", "reactivate", request<v1::ReactivateRequest>("r"));
  play.finish();
  EXPECT_TRUE(answer("reactivate:r").success());
  EXPECT_EQ(answer("reactivate:r").state(), "active");
  EXPECT_THAT(ledger.log, ElementsAre("aaa/apply", "radius/coa"));
}

TEST_F(Lifecycle, AfterAnUnknownOlderEffectTheConditionIsStatedAgain) {
  ledger.netbox = false;
  ledger.state = State::kSuspended;
  ledger.holds = {"operator"};
  ledger.restate = true;
  play.update("reactivate:r", "reactivate", request<v1::ReactivateRequest>("r"));
  play.finish();
  EXPECT_THAT(ledger.log, ElementsAre("aaa/apply", "radius/coa", "aaa/apply", "radius/coa"));
  ASSERT_EQ(ledger.moves.size(), 2U);
  EXPECT_EQ(ledger.moves[1].step(), "restate");
  EXPECT_EQ(ledger.moves[1].claim().number(), ledger.moves[0].claim().number());
  EXPECT_GE(play.elapsed(), std::chrono::seconds{30});
}

TEST_F(Lifecycle, AnAllocateStatesTheConditionAgainAsWell) {
  ledger.restate = true;
  play.update("allocate:a", "allocate", request<v1::AllocateRequest>("a"));
  play.finish();
  ASSERT_EQ(ledger.moves.size(), 2U);
  EXPECT_EQ(ledger.moves[0].step(), "");
  EXPECT_EQ(ledger.moves[1].step(), "restate");
  EXPECT_GE(play.elapsed(), std::chrono::seconds{30});
}

TEST_F(Lifecycle, AnUndoStatesTheConditionOnceMoreWhenItsOwnPacketCanLeaveNoMore) {
  ledger.state = State::kActive;
  ledger.held = {"ipv4"};
  ledger.restate = true;
  ledger.undo_tells = true;
  ledger.world["aaa/apply"] = [](int) { return effect_reply("refused", "aaa_failed"); };
  auto wanted = request<v1::ChangePlanRequest>("c");
  wanted.set_plan("gold");
  play.update("change_plan:c", "change_plan", wanted);
  play.finish();
  EXPECT_FALSE(answer("change_plan:c").success());
  ASSERT_EQ(ledger.moves.size(), 3U);
  EXPECT_EQ(ledger.moves[1].step(), "restate");
  EXPECT_EQ(ledger.moves[2].step(), "restate-undone");
  EXPECT_EQ(ledger.moves[2].claim().number(), ledger.moves[0].claim().number());
  EXPECT_GE(play.elapsed(), std::chrono::seconds{40});
}

TEST_F(Lifecycle, AccessReturnsWhenTheLastHoldIsGone) {
  ledger.state = State::kSuspended;
  ledger.holds = {"billing", "abuse"};
  play.update("reactivate:1", "reactivate", request<v1::ReactivateRequest>("1", "billing"));
  play.settle();
  EXPECT_EQ(answer("reactivate:1").state(), "suspended");
  EXPECT_TRUE(answer("reactivate:1").success());
  EXPECT_THAT(ledger.log, IsEmpty());
  play.finish();
}

TEST_F(Lifecycle, ReactivateMustNameTheHoldWhenThereAreSeveral) {
  ledger.state = State::kSuspended;
  ledger.holds = {"billing", "abuse"};
  play.update("reactivate:1", "reactivate", request<v1::ReactivateRequest>("1"));
  play.finish();
  EXPECT_FALSE(answer("reactivate:1").success());
  EXPECT_EQ(answer("reactivate:1").code(), "invalid_argument");
  EXPECT_THAT(answer("reactivate:1").message(), HasSubstr("caller.reason"));
}

TEST_F(Lifecycle, AnIllegalMoveIsRefusedAndChangesNothing) {
  ledger.state = State::kActive;
  play.update("allocate:a", "allocate", request<v1::AllocateRequest>("a"));
  play.finish();
  EXPECT_EQ(play.update_failure("allocate:a"),
            "illegal_transition: allocate is not possible: the binding is active");
  EXPECT_THAT(play.activities(), ElementsAre("ledger_pending", "ledger_claim"));
  EXPECT_EQ(play.closing_command(), enums::COMMAND_TYPE_COMPLETE_WORKFLOW_EXECUTION);
}

TEST_F(Lifecycle, ARepeatOfAKeyGivesTheRecordedAnswer) {
  ledger.state = State::kActive;
  ledger.recorded["old"].set_message("as it was");
  play.update("suspend:old", "suspend", request<v1::SuspendRequest>("old"));
  play.finish();
  EXPECT_EQ(answer("suspend:old").message(), "as it was");
  EXPECT_EQ(ledger.state, State::kActive);
}

TEST_F(Lifecycle, WithoutAKeyTheUpdateIdIsTheKey) {
  ledger.state = State::kActive;
  play.update("suspend:by-id", "suspend", v1::SuspendRequest{});
  play.finish();
  EXPECT_TRUE(ledger.recorded.contains("by-id"));
}

TEST_F(Lifecycle, ABadShapeIsRejectedWithTheFieldsName) {
  v1::AllocateRequest bad = request<v1::AllocateRequest>("a");
  bad.set_requested_address("nonsense");
  play.update("allocate:a", "allocate", bad);
  play.finish();
  EXPECT_THAT(play.update_failure("allocate:a"), HasSubstr("invalid_argument: requested_address"));
  EXPECT_EQ(play.count("ledger_claim"), 0);
}

TEST_F(Lifecycle, AnExhaustedPoolIsUndoneAndRecorded) {
  ledger.reserve_refusal = "pool_exhausted";
  play.update("allocate:a", "allocate", request<v1::AllocateRequest>("a"));
  play.finish();
  EXPECT_FALSE(answer("allocate:a").success());
  EXPECT_EQ(answer("allocate:a").code(), "pool_exhausted");
  EXPECT_EQ(answer("allocate:a").message(), "No available IP addresses");
  EXPECT_EQ(ledger.undone.size(), 1U);
  EXPECT_TRUE(ledger.recorded.contains("a"));
}

TEST_F(Lifecycle, AConflictInNetboxTakesAnotherAddress) {
  ledger.world["netbox/reserve"] = [this](int) {
    v1::EffectReply reply = effect_reply(ledger.address == "203.0.113.7" ? "refused" : "confirmed");
    reply.set_conflict(ledger.address == "203.0.113.7");
    return reply;
  };
  play.update("allocate:a", "allocate", request<v1::AllocateRequest>("a"));
  play.finish();
  EXPECT_EQ(answer("allocate:a").address(), "203.0.113.8");
}

TEST_F(Lifecycle, WhereNetboxPicksTheLedgerWritesItsPickDown) {
  ledger.netbox_picks = true;
  play.update("allocate:a", "allocate", request<v1::AllocateRequest>("a"));
  play.finish();
  EXPECT_TRUE(answer("allocate:a").success()) << answer("allocate:a").message();
  EXPECT_EQ(answer("allocate:a").address(), "203.0.113.7");
  EXPECT_THAT(ledger.log, ElementsAre("netbox/take", "aaa/apply"));
  ASSERT_EQ(ledger.reserved.size(), 2U);
  EXPECT_EQ(ledger.reserved[1].taken_effect(), 1);
}

TEST_F(Lifecycle, APickThatTheLedgerCannotHaveIsReplacedByItsOwn) {
  ledger.netbox_picks = true;
  ledger.pick_refused = "203.0.113.1 is excluded: gateway";
  play.update("allocate:a", "allocate", request<v1::AllocateRequest>("a"));
  play.finish();
  EXPECT_TRUE(answer("allocate:a").success()) << answer("allocate:a").message();
  EXPECT_THAT(ledger.log, ElementsAre("netbox/take", "netbox/reserve", "aaa/apply"));
  EXPECT_TRUE(ledger.reserved.back().netbox_asked());
}

TEST_F(Lifecycle, WhereNetboxHasNoneLeftTheNextPoolIsAsked) {
  ledger.netbox_picks = true;
  ledger.world["netbox/take"] = [](int) { return effect_reply("refused", "netbox-exhausted"); };
  play.update("allocate:a", "allocate", request<v1::AllocateRequest>("a"));
  play.finish();
  EXPECT_TRUE(answer("allocate:a").success()) << answer("allocate:a").message();
  EXPECT_THAT(ledger.reserved.back().exhausted(), ElementsAre("p1"));
}

TEST_F(Lifecycle, ANetboxThatDoesNotPickFailsTheAllocateAndUndoesIt) {
  ledger.netbox_picks = true;
  ledger.world["netbox/take"] = [](int) { return effect_reply("unknown", "timeout", true); };
  play.update("allocate:a", "allocate", request<v1::AllocateRequest>("a"));
  play.finish();
  EXPECT_FALSE(answer("allocate:a").success());
  EXPECT_EQ(answer("allocate:a").code(), "netbox_failed");
  ASSERT_EQ(ledger.undone.size(), 1U);
  EXPECT_THAT(ledger.moves, IsEmpty());
}

// What the server says of an activity whose worker is frozen or gone.
v1::EffectReply nobody_tells() {
  tempora::FailureProto proto;
  proto.set_message("activity StartToClose timeout");
  proto.mutable_timeout_failure_info()->set_timeout_type(enums::TIMEOUT_TYPE_START_TO_CLOSE);
  throw tempora::TimeoutError{proto};
}

TEST_F(Lifecycle, APickOfWhichNobodyToldIsAskedForUntilSomebodyDoes) {
  ledger.netbox_picks = true;
  // More than an answer waits for.
  ledger.world["netbox/take"] = [](int attempt) {
    return attempt <= 5 ? nobody_tells() : effect_reply("confirmed");
  };
  play.update("allocate:a", "allocate", request<v1::AllocateRequest>("a"));
  play.finish();
  EXPECT_TRUE(answer("allocate:a").success()) << answer("allocate:a").message();
  EXPECT_EQ(std::ranges::count(ledger.log, "netbox/take"), 6);
  EXPECT_THAT(ledger.undone, IsEmpty());
  EXPECT_EQ(ledger.reserved.back().taken_effect(), 1);
}

TEST_F(Lifecycle, AnAddressThatNetboxHasToConfirmIsAskedForUntilSomebodyTells) {
  ledger.world["netbox/reserve"] = [](int attempt) {
    return attempt <= 5 ? nobody_tells() : effect_reply("confirmed");
  };
  auto wanted = request<v1::AllocateRequest>("a");
  wanted.set_on_netbox_failure("fail");
  play.update("allocate:a", "allocate", wanted);
  play.finish();
  EXPECT_TRUE(answer("allocate:a").success()) << answer("allocate:a").message();
  EXPECT_THAT(ledger.undone, IsEmpty());
}

TEST_F(Lifecycle, WhatNetboxRefusesAfterALostAttemptFailsAtOnce) {
  ledger.netbox_picks = true;
  ledger.world["netbox/take"] = [](int attempt) {
    return attempt <= 5 ? nobody_tells() : effect_reply("refused", "netbox-invalid");
  };
  play.update("allocate:a", "allocate", request<v1::AllocateRequest>("a"));
  play.finish();
  EXPECT_EQ(answer("allocate:a").code(), "netbox_failed");
  EXPECT_EQ(std::ranges::count(ledger.log, "netbox/take"), 6);
  EXPECT_EQ(ledger.undone.size(), 1U);
}

TEST_F(Lifecycle, APickOfWhichNobodyEverTellsFailsWhenNoServiceWaitsForNetboxAnyLonger) {
  ledger.netbox_picks = true;
  ledger.world["netbox/take"] = [](int) { return nobody_tells(); };
  play.update("allocate:a", "allocate", request<v1::AllocateRequest>("a"));
  play.finish();
  EXPECT_EQ(answer("allocate:a").code(), "netbox_failed");
  EXPECT_EQ(ledger.undone.size(), 1U);
  EXPECT_THAT(ledger.moves, IsEmpty());
}

TEST_F(Lifecycle, ARevokeEndsTheWaitForAPickOfWhichNobodyTells) {
  ledger.netbox_picks = true;
  ledger.world["netbox/take"] = [](int) { return nobody_tells(); };
  play.update("allocate:a", "allocate", request<v1::AllocateRequest>("a"));
  for (int i = 0; i < 5; ++i) play.advance();
  EXPECT_FALSE(play.update_answered("allocate:a"));
  play.update("revoke:b", "revoke", request<v1::RevokeRequest>("b"));
  play.settle();
  EXPECT_EQ(answer("allocate:a").code(), "netbox_failed");
  EXPECT_TRUE(play.update_answered("revoke:b"));
  EXPECT_EQ(ledger.undone.size(), 1U);
  play.finish();
}

TEST_F(Lifecycle, NetboxDownMeansPendingUnlessThePolicySaysFail) {
  ledger.world["netbox/reserve"] = [](int) { return effect_reply("unknown", "500", true); };
  play.update("allocate:a", "allocate", request<v1::AllocateRequest>("a"));
  while (!play.update_answered("allocate:a") && play.advance()) {
  }
  EXPECT_TRUE(answer("allocate:a").success());
  EXPECT_EQ(answer("allocate:a").enforcement(), "pending");
  play.finish();  // no service stays open for NetBox: it gives up after its time

  FakeLedger second;
  second.world = ledger.world;
  Play strict(workflow_registry(), "ServiceLifecycle", kId);
  second.plays_in(strict);
  auto wanted = request<v1::AllocateRequest>("b");
  wanted.set_on_netbox_failure("fail");
  strict.update("allocate:b", "allocate", wanted);
  strict.finish();
  const auto result = strict.update_result<v1::LifecycleResult>("allocate:b");
  EXPECT_FALSE(result.success());
  EXPECT_EQ(result.code(), "netbox_failed");
  EXPECT_EQ(second.undone.size(), 1U);
  EXPECT_THAT(second.moves, IsEmpty()) << "AAA never saw the address";
}

TEST_F(Lifecycle, NetboxIsToldOfASuspensionAndOfItsEndAndHoldsUpNeither) {
  ledger.state = State::kActive;
  for (const char* action : {"netbox/suspend", "netbox/set_active"})
    ledger.world[action] = [](int) { return effect_reply("unknown", "500", true); };
  auto hold = request<v1::SuspendRequest>("s", "billing");
  hold.set_send_coa(true);
  play.update("suspend:s", "suspend", hold);
  play.settle();
  ASSERT_TRUE(play.update_answered("suspend:s"));
  EXPECT_EQ(answer("suspend:s").enforcement(), "confirmed") << "the session is restricted";
  EXPECT_EQ(answer("suspend:s").effects_size(), 3) << "NetBox' is named all the same";
  auto lift = request<v1::ReactivateRequest>("r", "billing");
  lift.set_send_coa(true);
  play.update("reactivate:r", "reactivate", lift);
  play.settle();
  ASSERT_TRUE(play.update_answered("reactivate:r"));
  EXPECT_EQ(answer("reactivate:r").enforcement(), "confirmed");
  EXPECT_EQ(play.elapsed().count(), 0) << "nobody waited for NetBox";
  EXPECT_EQ(std::ranges::count(ledger.log, "netbox/suspend"), 1);
  EXPECT_EQ(std::ranges::count(ledger.log, "netbox/set_active"), 1);
  play.finish();
}

TEST_F(Lifecycle, NetboxIsToldTheStateThatAPersonDeclares) {
  for (const auto& [state, action] :
       std::map<std::string, std::string>{{"allocated", "set_reserved"},
                                          {"active", "set_active"},
                                          {"suspended", "suspend"},
                                          {"revoked", ""}}) {
    FakeLedger failed;
    failed.state = State::kFailed;
    Play adopting(workflow_registry(), "ServiceLifecycle", kId);
    failed.plays_in(adopting);
    auto wanted = request<v1::AdoptRequest>("a", "seen on the BNG");
    wanted.mutable_caller()->set_actor("ann");
    wanted.set_state(state);
    adopting.update("adopt:a", "adopt", wanted);
    adopting.finish();
    EXPECT_TRUE(adopting.update_result<v1::LifecycleResult>("adopt:a").success()) << state;
    EXPECT_EQ(failed.moves.at(0).plan_netbox(), action) << state;
  }
}

TEST_F(Lifecycle, ARefusedCoaUndoesTheActivationIfThePolicySaysSo) {
  ledger.state = State::kAllocated;
  ledger.world["radius/coa"] = [](int) { return effect_reply("refused", "CoA-NAK"); };
  auto wanted = request<v1::ActivateRequest>("a");
  wanted.set_send_coa(true);
  wanted.set_on_coa_failure("fail");
  play.update("activate:a", "activate", wanted);
  play.finish();
  EXPECT_EQ(answer("activate:a").code(), "coa_failed");
  EXPECT_EQ(ledger.undone.size(), 1U);
  EXPECT_EQ(play.elapsed().count(), 0) << "a refusal is not waited out";
}

TEST_F(Lifecycle, RevokeEndsInRevokedAndWatchesTheGate) {
  ledger.state = State::kActive;
  ledger.gate_opens_after = 3;
  play.update("revoke:r", "revoke", request<v1::RevokeRequest>("r"));
  play.settle();
  ASSERT_TRUE(play.update_answered("revoke:r"));
  EXPECT_EQ(answer("revoke:r").state(), "revoked");
  EXPECT_EQ(answer("revoke:r").disconnect_result().code(), "Disconnect-ACK");
  EXPECT_FALSE(play.closed()) << "the gate is still closed";
  EXPECT_EQ(play.query<v1::ServiceStatus>("status").gate(), "closed");
  play.finish();
  EXPECT_EQ(play.count("ledger_gate"), 4);
  EXPECT_EQ(ledger.moves.back().state(), "revoked");
}

TEST_F(Lifecycle, AnUnansweredDisconnectLeavesItRevokingUntilItIsConfirmed) {
  ledger.state = State::kActive;
  ledger.gate_opens_after = 100;
  bool alive = false;
  ledger.world["radius/disconnect"] = [&](int) {
    return alive ? effect_reply("confirmed", "Disconnect-ACK")
                 : effect_reply("unknown", "timeout", true);
  };
  play.update("revoke:r", "revoke", request<v1::RevokeRequest>("r"));
  while (!play.update_answered("revoke:r") && play.advance()) {
  }
  EXPECT_EQ(answer("revoke:r").state(), "revoking");
  EXPECT_EQ(answer("revoke:r").enforcement(), "pending");
  alive = true;
  ledger.gate_opens_after = 0;
  play.finish();
  EXPECT_EQ(ledger.state, State::kRevoked);
}

TEST_F(Lifecycle, RevokePreemptsWhatWaits) {
  ledger.state = State::kActive;
  ledger.world["radius/coa"] = [](int) { return effect_reply("unknown", "timeout", true); };
  play.update("suspend:s", "suspend", request<v1::SuspendRequest>("s"));
  play.settle();
  EXPECT_FALSE(play.update_answered("suspend:s"));
  play.update("revoke:r", "revoke", request<v1::RevokeRequest>("r"));
  play.settle();
  EXPECT_TRUE(play.update_answered("suspend:s"));
  EXPECT_EQ(answer("suspend:s").enforcement(), "pending");
  EXPECT_TRUE(play.update_answered("revoke:r"));
  EXPECT_EQ(play.elapsed().count(), 0);
  play.finish();
}

TEST_F(Lifecycle, OperationsTakeTurnsInTheOrderTheyCame) {
  ledger.state = State::kActive;
  play.update("suspend:1", "suspend", request<v1::SuspendRequest>("1", "billing"));
  play.update("reactivate:2", "reactivate", request<v1::ReactivateRequest>("2", "billing"));
  play.update("suspend:3", "suspend", request<v1::SuspendRequest>("3", "abuse"));
  play.finish();
  ASSERT_EQ(ledger.moves.size(), 3U);
  EXPECT_EQ(ledger.moves[0].add_hold(), "billing");
  EXPECT_EQ(ledger.moves[1].remove_hold(), "billing");
  EXPECT_EQ(ledger.moves[2].add_hold(), "abuse");
}

TEST_F(Lifecycle, ASignalDoesTheSameWithoutAnAnswer) {
  ledger.state = State::kActive;
  v1::SuspendRequest suspend;
  suspend.mutable_caller()->set_reason("billing");
  play.signal("suspend", suspend);
  play.finish();
  EXPECT_EQ(ledger.state, State::kSuspended);
  EXPECT_THAT(ledger.audited, IsEmpty());
}

TEST_F(Lifecycle, ARefusedOrUnreadableSignalGoesOnRecordAndNeverFailsTheWorkflow) {
  ledger.state = State::kRevoked;
  play.signal("suspend", v1::SuspendRequest{});
  play.signal("revoke", nlohmann::json{{"no_such_field", 1}});
  play.signal("reactivate", std::string{"not an object"});
  play.finish();
  EXPECT_EQ(play.closing_command(), enums::COMMAND_TYPE_COMPLETE_WORKFLOW_EXECUTION);
  ASSERT_EQ(ledger.audited.size(), 3U);
  std::set<std::string> codes;
  for (const auto& row : ledger.audited) codes.insert(row.code());
  EXPECT_THAT(codes, ElementsAre("illegal_transition", "invalid_argument"));
}

TEST_F(Lifecycle, AnOpenClaimIsRolledForwardBeforeAnythingElse) {
  ledger.state = State::kActive;
  ledger.pending.mutable_open_claim()->set_operation_id(9);
  ledger.pending.mutable_open_claim()->set_number(4);
  ledger.pending.set_open_operation("suspend");
  ledger.pending.set_open_key("left-open");
  ledger.pending.set_open_request_json(R"({"caller":{"key":"left-open","reason":"abuse"}})");
  play.update("reactivate:r", "reactivate", request<v1::ReactivateRequest>("r", "abuse"));
  play.finish();
  ASSERT_EQ(ledger.moves.size(), 2U);
  EXPECT_EQ(ledger.moves[0].add_hold(), "abuse");
  EXPECT_TRUE(ledger.recorded.contains("left-open"));
  EXPECT_EQ(answer("reactivate:r").state(), "active");
}

TEST_F(Lifecycle, AnOpenClaimThatCannotBeReadIsUndone) {
  ledger.pending.mutable_open_claim()->set_operation_id(9);
  ledger.pending.mutable_open_claim()->set_number(4);
  ledger.pending.set_open_operation("allocate");
  ledger.pending.set_open_request_json("{}}");
  play.finish();
  EXPECT_EQ(ledger.undone.size(), 1U);
  EXPECT_EQ(play.count("ledger_finish"), 1);
}

TEST_F(Lifecycle, AWakePursuesWhatTheLedgerNames) {
  ledger.state = State::kActive;
  ledger.number = 3;
  *ledger.pending.mutable_view() = ledger.view();
  ledger.pending.mutable_claim()->set_number(3);
  ledger.next_effect = 10;
  *ledger.pending.add_effects() = ledger.effect("radius", "coa");
  *ledger.pending.add_effects() = ledger.effect("aaa", "apply");
  play.signal("wake");
  play.finish();
  EXPECT_THAT(ledger.log, ElementsAre("aaa/apply", "radius/coa"));
}

TEST_F(Lifecycle, ALongRunContinuesAsNewWithWhatItPursues) {
  ledger.state = State::kActive;
  ledger.world["radius/coa"] = [](int) { return effect_reply("unknown", "timeout", true); };
  play.update("suspend:s", "suspend", request<v1::SuspendRequest>("s"));
  play.finish(500);
  ASSERT_EQ(play.closing_command(), enums::COMMAND_TYPE_CONTINUE_AS_NEW_WORKFLOW_EXECUTION);
  EXPECT_LT(play.history().events_size(), 1'100);
  const auto& input =
      play.last_command().continue_as_new_workflow_execution_command_attributes().input();
  const auto next = tempora::decode_argument<v1::ServiceInput>(input);
  ASSERT_EQ(next.carried().effects_size(), 1);
  EXPECT_EQ(next.carried().effects(0).action(), "coa");

  ledger.world.clear();
  ledger.log.clear();
  Play second(workflow_registry(), "ServiceLifecycle", kId, input);
  ledger.plays_in(second);
  second.finish();
  EXPECT_THAT(ledger.log, ElementsAre("radius/coa"));
  EXPECT_EQ(second.count("ledger_pending"), 0);
}

TEST_F(Lifecycle, ACancelledRunEndsWhatItDoesFirst) {
  ledger.state = State::kActive;
  play.hold("aaa_apply");
  play.update("suspend:s", "suspend", request<v1::SuspendRequest>("s"));
  play.settle();
  play.cancel();
  play.settle();
  EXPECT_FALSE(play.closed());
  play.let_go("aaa_apply");
  play.finish();
  EXPECT_TRUE(play.update_answered("suspend:s"));
  EXPECT_EQ(play.closing_command(), enums::COMMAND_TYPE_CANCEL_WORKFLOW_EXECUTION);
}

TEST(LifecycleInput, AWorkflowIdThatNamesNoServiceFailsAtOnce) {
  Play play(workflow_registry(), "ServiceLifecycle", "my-workflow");
  play.update("suspend:s", "suspend", v1::SuspendRequest{});
  play.finish();
  EXPECT_THAT(play.update_failure("suspend:s"), HasSubstr("workflow_id"));
  EXPECT_EQ(play.closing_command(), enums::COMMAND_TYPE_FAIL_WORKFLOW_EXECUTION);
  EXPECT_THAT(play.failure()->message(), HasSubstr("workflow_id"));
}

}  // namespace
}  // namespace addrflow::workflows::testing
