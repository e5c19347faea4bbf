// What changes a line as it lives, on the engine, with each step failing in turn.
#include <addrflow/v1/operators.pb.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <addrflow/workflows/names.hpp>
#include <addrflow/workflows/registry.hpp>
#include <algorithm>

#include "testing/fake_ledger.hpp"
#include "testing/play.hpp"

namespace addrflow::workflows::testing {
namespace {

using domain::State;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

constexpr const char* kId = "service/acme/42/internet";

class Changes : public ::testing::Test {
 protected:
  Changes() : play(workflow_registry(), "ServiceLifecycle", kId) {
    ledger.plays_in(play);
    ledger.state = State::kActive;
    ledger.held = {"ipv4"};
  }

  template <class Request>
  static Request keyed(const std::string& key) {
    Request request;
    request.mutable_caller()->set_key(key);
    return request;
  }
  static v1::MoveRequest move(const std::string& key) {
    auto request = keyed<v1::MoveRequest>(key);
    request.set_nas_ip("192.0.2.2");
    return request;
  }
  static v1::RebindRequest rebind(const std::string& key) {
    auto request = keyed<v1::RebindRequest>(key);
    request.set_username("new@acme");
    return request;
  }
  static v1::ChangePlanRequest change_plan(const std::string& key) {
    auto request = keyed<v1::ChangePlanRequest>(key);
    request.set_plan("gold");
    return request;
  }
  static v1::ReaddressRequest readdress(const std::string& key) {
    return keyed<v1::ReaddressRequest>(key);
  }
  void ask(const std::string& operation) {
    const std::string id = operation + ":k";
    if (operation == "move") play.update(id, operation, move("k"));
    if (operation == "rebind") play.update(id, operation, rebind("k"));
    if (operation == "change_plan") play.update(id, operation, change_plan("k"));
    if (operation == "readdress") play.update(id, operation, readdress("k"));
  }
  v1::LifecycleResult answer(const std::string& id) {
    return play.update_result<v1::LifecycleResult>(id);
  }
  std::ptrdiff_t place(const std::string& effect) const {
    return std::ranges::find(ledger.log, effect) - ledger.log.begin();
  }

  FakeLedger ledger;
  Play play;
};

// --- each of them --------------------------------------------------------------------------------

class EachChange : public Changes, public ::testing::WithParamInterface<std::string> {
 protected:
  const std::string& operation() const { return GetParam(); }
  std::string id() const { return operation() + ":k"; }
  std::string packet() const {
    return operation() == "move" || operation() == "rebind" ? "radius/disconnect" : "radius/coa";
  }
};

INSTANTIATE_TEST_SUITE_P(Operations, EachChange,
                         ::testing::Values("move", "rebind", "change_plan", "readdress"),
                         [](const auto& one) { return one.param; });

TEST_P(EachChange, WritesTheRowsThenTellsTheSessionAndKeepsTheState) {
  ask(operation());
  play.finish();
  const auto result = answer(id());
  EXPECT_TRUE(result.success()) << result.message();
  EXPECT_EQ(result.operation(), operation());
  EXPECT_EQ(result.state(), "active");
  EXPECT_EQ(result.enforcement(), "confirmed");
  EXPECT_EQ(std::ranges::count(ledger.log, "aaa/apply"), 1);
  EXPECT_EQ(std::ranges::count(ledger.log, packet()), 1);
  EXPECT_LT(place("aaa/apply"), place(packet()));
  ASSERT_EQ(ledger.moves.size(), 1U);
  EXPECT_TRUE(ledger.moves[0].keep_state());
  EXPECT_EQ(play.closing_command(), enums::COMMAND_TYPE_COMPLETE_WORKFLOW_EXECUTION);
}

TEST_P(EachChange, ShowsItsStepsAndWhatIsStillBlockedAfterItsAnswer) {
  ledger.world[packet()] = [](int) { return effect_reply("unknown", "timeout", true); };
  ask(operation());
  play.settle();
  const auto steps = [&] {
    std::vector<std::string> steps;
    for (const auto& step : play.query<v1::CompositionProgress>(kProgress).steps())
      steps.push_back(step.name() + " " + step.status());
    return steps;
  };
  const std::string last = packet() == "radius/coa" ? "radius_coa" : "radius_disconnect";
  EXPECT_EQ(play.query<v1::CompositionProgress>(kProgress).state(), "running");
  EXPECT_THAT(steps(), Contains("aaa_apply done"));
  while (!play.update_answered(id()) && play.advance()) {
  }
  const auto shown = play.query<v1::CompositionProgress>(kProgress);
  EXPECT_EQ(shown.state(), "finished");
  EXPECT_EQ(shown.kind(), operation());
  EXPECT_EQ(shown.service().subscriber_id(), "42");
  EXPECT_THAT(steps(), Contains("claim done"));
  EXPECT_THAT(steps(), Contains("change done"));
  EXPECT_THAT(steps(), Contains(last + " blocked"));
  const auto& packet_step = *std::ranges::find(shown.steps(), last, &v1::StepProgress::name);
  EXPECT_GE(packet_step.attempts(), 1);
  EXPECT_EQ(packet_step.last_error(), "timeout");
  if (operation() == "readdress") EXPECT_THAT(steps(), Contains("reserve_ipv4 done"));
}

TEST_P(EachChange, IsUndoneWhenAaaRefusesItAndNoPacketLeaves) {
  ledger.world["aaa/apply"] = [](int) { return effect_reply("refused", "username_taken"); };
  ask(operation());
  play.finish();
  EXPECT_FALSE(answer(id()).success());
  EXPECT_EQ(answer(id()).code(), "aaa_failed");
  EXPECT_EQ(ledger.undone.size(), 1U);
  EXPECT_THAT(ledger.log, Not(Contains(packet())));
  const auto shown = play.query<v1::CompositionProgress>(kProgress);
  const auto& change = *std::ranges::find(shown.steps(), "change", &v1::StepProgress::name);
  EXPECT_EQ(change.status(), "failed");
  const auto& rows = *std::ranges::find(shown.steps(), "aaa_apply", &v1::StepProgress::name);
  EXPECT_EQ(rows.status(), "refused");
  EXPECT_EQ(rows.last_error(), "username_taken");
}

TEST_P(EachChange, IsPursuedWhileAaaIsAwayAndAnsweredAsPending) {
  ledger.world["aaa/apply"] = [](int attempt) {
    return attempt < 6 ? effect_reply("unknown", "aaa_unreachable", true)
                       : effect_reply("confirmed");
  };
  ask(operation());
  play.finish();
  EXPECT_TRUE(answer(id()).success());
  EXPECT_EQ(answer(id()).enforcement(), "pending");
  EXPECT_THAT(ledger.undone, IsEmpty());
  EXPECT_LT(place("aaa/apply") + 5, place(packet()));
  EXPECT_EQ(ledger.log.back(), packet());
}

TEST_P(EachChange, IsPursuedWhileTheNasIsSilent) {
  ledger.world[packet()] = [](int attempt) {
    return attempt < 6 ? effect_reply("unknown", "timeout", true)
                       : effect_reply("confirmed", "ack");
  };
  ask(operation());
  play.finish();
  EXPECT_TRUE(answer(id()).success());
  EXPECT_EQ(answer(id()).enforcement(), "pending");
  EXPECT_EQ(std::ranges::count(ledger.log, packet()), 6);
}

TEST_P(EachChange, LeavesTheSessionAloneOnRequest) {
  if (operation() == "move") {
    auto request = move("k");
    request.set_send_disconnect(false);
    play.update(id(), operation(), request);
  } else if (operation() == "rebind") {
    auto request = rebind("k");
    request.set_send_disconnect(false);
    play.update(id(), operation(), request);
  } else if (operation() == "change_plan") {
    auto request = change_plan("k");
    request.set_send_coa(false);
    play.update(id(), operation(), request);
  } else {
    auto request = readdress("k");
    request.set_send_coa(false);
    play.update(id(), operation(), request);
  }
  play.finish();
  EXPECT_TRUE(answer(id()).success());
  EXPECT_THAT(ledger.log, Not(Contains(packet())));
  EXPECT_THAT(ledger.log, Contains("aaa/apply"));
}

TEST_P(EachChange, OfALineThatDoesNotLiveIsRefused) {
  for (const State state : {State::kRevoking, State::kRevoked, State::kFailed, State::kPending}) {
    FakeLedger other;
    other.state = state;
    Play one(workflow_registry(), "ServiceLifecycle", kId);
    other.plays_in(one);
    if (operation() == "move") one.update(id(), operation(), move("k"));
    if (operation() == "rebind") one.update(id(), operation(), rebind("k"));
    if (operation() == "change_plan") one.update(id(), operation(), change_plan("k"));
    if (operation() == "readdress") one.update(id(), operation(), readdress("k"));
    one.finish();
    EXPECT_THAT(one.update_failure(id()), HasSubstr("illegal_transition"));
    EXPECT_THAT(other.log, IsEmpty());
  }
}

TEST_P(EachChange, GivesWayToNobodyHalfway) {
  play.hold("aaa_apply");
  ask(operation());
  play.update("suspend:s", "suspend", keyed<v1::SuspendRequest>("s"));
  play.settle();
  const auto steps = ledger.moves.size();
  EXPECT_EQ(steps, 1U) << "the suspend waits for its turn";
  play.let_go("aaa_apply");
  play.finish();
  EXPECT_TRUE(answer(id()).success());
  EXPECT_EQ(answer("suspend:s").state(), "suspended");
  EXPECT_EQ(ledger.moves.size(), 2U);
  EXPECT_EQ(ledger.log.back(), "radius/coa");
}

TEST_P(EachChange, ThatARunLeftOpenIsRolledForward) {
  v1::Claim& open = *ledger.pending.mutable_open_claim();
  open.mutable_service()->set_tenant_id("acme");
  open.mutable_service()->set_subscriber_id("42");
  open.mutable_service()->set_service("internet");
  open.set_number(1);
  open.set_operation_id(1);
  ledger.pending.set_open_operation(operation());
  ledger.pending.set_open_key("k");
  const std::map<std::string, std::string> recorded{{"move", R"({"nas_ip": "192.0.2.2"})"},
                                                    {"rebind", R"({"username": "new@acme"})"},
                                                    {"change_plan", R"({"plan": "gold"})"},
                                                    {"readdress", "{}"}};
  ledger.pending.set_open_request_json(recorded.at(operation()));
  *ledger.pending.mutable_view() = ledger.view();
  play.signal("wake");
  play.finish();
  EXPECT_TRUE(ledger.recorded.contains("k"));
  EXPECT_TRUE(ledger.recorded["k"].success());
  EXPECT_THAT(ledger.log, Contains("aaa/apply"));
}

// --- each on its own -----------------------------------------------------------------------------

TEST_F(Changes, AMoveSparesTheSessionThatIsWhereItBelongs) {
  play.update("move:k", "move", move("k"));
  play.finish();
  ASSERT_EQ(ledger.moves.size(), 1U);
  EXPECT_TRUE(ledger.moves[0].spare_nas());
  EXPECT_EQ(ledger.moves[0].nas_ip(), "192.0.2.2");
  EXPECT_EQ(answer("move:k").disconnect_result().code(), "Disconnect-ACK");
}

TEST_F(Changes, AReaddressThatAlsoMovesCutsTheSessionInsteadOfRenumberingIt) {
  auto request = readdress("k");
  request.set_nas_ip("192.0.2.2");
  play.update("readdress:k", "readdress", request);
  play.finish();
  EXPECT_THAT(ledger.log, Contains("radius/disconnect"));
  EXPECT_THAT(ledger.log, Not(Contains("radius/coa")));
  EXPECT_FALSE(ledger.moves[0].spare_nas());
}

TEST_F(Changes, FieldsOfOneFamilyMeanThatFamily) {
  ledger.state6 = State::kActive;
  auto request = readdress("k");
  request.set_requested_address("203.0.113.70");
  play.update("readdress:k", "readdress", request);
  auto second = readdress("l");
  second.set_ipv6_pd_size(56);
  play.update("readdress:l", "readdress", second);
  play.update("readdress:m", "readdress", readdress("m"));
  play.finish();
  ASSERT_EQ(ledger.moves.size(), 3U);
  EXPECT_THAT(ledger.moves[0].families(), ElementsAre("ipv4"));
  EXPECT_THAT(ledger.moves[1].families(), ElementsAre("ipv6_pd"));
  EXPECT_THAT(ledger.moves[2].families(), ElementsAre("ipv4", "ipv6_pd"));
}

TEST_F(Changes, BothFamiliesGetOtherSpaceInOneTransactionOfTheRowsOrNeither) {
  ledger.state6 = State::kActive;
  play.update("readdress:k", "readdress", readdress("k"));
  play.finish();
  EXPECT_EQ(answer("readdress:k").address(), "203.0.113.70");
  EXPECT_EQ(answer("readdress:k").prefix(), "2001:db8:3400::/56");
  EXPECT_EQ(std::ranges::count(ledger.log, "aaa/apply"), 1);

  FakeLedger full;
  full.state = full.state6 = State::kActive;
  full.reserve_refusal = "pool_exhausted";
  full.reserve_refused_family = "ipv6_pd";
  Play one(workflow_registry(), "ServiceLifecycle", kId);
  full.plays_in(one);
  one.update("readdress:k", "readdress", readdress("k"));
  one.finish();
  const auto refused = one.update_result<v1::LifecycleResult>("readdress:k");
  EXPECT_FALSE(refused.success());
  EXPECT_EQ(refused.code(), "pool_exhausted");
  EXPECT_EQ(full.undone.size(), 1U);
  EXPECT_THAT(full.moves, IsEmpty());
  EXPECT_THAT(full.log, Not(Contains("aaa/apply")));
}

TEST_F(Changes, SpaceThatNetboxCallsTakenIsPassedOver) {
  ledger.world["netbox/reserve"] = [conflicts = 2](int) mutable {
    auto reply = effect_reply(conflicts > 0 ? "refused" : "confirmed");
    reply.set_conflict(conflicts-- > 0);
    return reply;
  };
  play.update("readdress:k", "readdress", readdress("k"));
  play.finish();
  EXPECT_EQ(answer("readdress:k").address(), "203.0.113.72");
  EXPECT_EQ(std::ranges::count(ledger.log, "netbox/deprecate"), 1) << "what it had leaves once";
}

TEST_F(Changes, NetboxHearsOfTheNewSpaceBeforeTheFormerOneIsDeprecated) {
  ledger.world["netbox/reserve"] = [](int attempt) {
    return attempt < 3 ? effect_reply("unknown", "timeout", true) : effect_reply("confirmed");
  };
  play.update("readdress:k", "readdress", readdress("k"));
  play.finish();
  EXPECT_TRUE(answer("readdress:k").success());
  EXPECT_EQ(std::ranges::count(ledger.log, "netbox/reserve"), 3);
  EXPECT_EQ(std::ranges::count(ledger.log, "netbox/deprecate"), 1);
  const auto deprecated = ledger.log.begin() + place("netbox/deprecate");
  EXPECT_EQ(std::count(deprecated, ledger.log.end(), "netbox/reserve"), 0) << "all came before it";
}

TEST_F(Changes, AReserveForWhichANewerWishStandsHoldsTheFormerSpacesDeprecationUpNoMore) {
  ledger.world["netbox/reserve"] = [](int attempt) {
    return attempt < 2 ? effect_reply("unknown", "timeout", true) : effect_reply("superseded");
  };
  play.update("readdress:k", "readdress", readdress("k"));
  play.finish();
  EXPECT_TRUE(answer("readdress:k").success());
  EXPECT_EQ(std::ranges::count(ledger.log, "netbox/deprecate"), 1);
  EXPECT_LT(place("netbox/reserve"), place("netbox/deprecate"));
}

TEST_F(Changes, NetboxPicksTheNewSpaceOfAnAuthoritativePool) {
  ledger.netbox_picks = true;
  play.update("readdress:k", "readdress", readdress("k"));
  play.finish();
  EXPECT_EQ(answer("readdress:k").address(), "203.0.113.70");
  EXPECT_EQ(std::ranges::count(ledger.log, "netbox/take"), 1);
  EXPECT_LT(place("netbox/take"), place("netbox/deprecate"));
  EXPECT_THAT(ledger.log, Not(Contains("netbox/reserve")));
}

TEST_F(Changes, TheGateOfTheFormerSpaceIsWatchedThroughWhateverComesAfter) {
  ledger.gate_opens_after = 1'000'000;
  play.update("readdress:k", "readdress", readdress("k"));
  play.settle();
  play.advance();
  EXPECT_FALSE(play.closed());
  play.update("suspend:s", "suspend", keyed<v1::SuspendRequest>("s"));
  play.settle();
  EXPECT_TRUE(answer("suspend:s").success());
  ledger.looks.clear();
  ledger.gate_opens_after = 2;
  play.finish();
  ASSERT_EQ(ledger.looks.size(), 3U);
  EXPECT_EQ(ledger.looks.back().number(), ledger.number) << "under the newest number";
  EXPECT_THAT(ledger.looks.back().families(), ElementsAre("ipv4"));
  EXPECT_TRUE(play.closed());
}

TEST_F(Changes, ThePacketOfALineThatLivesIsPursuedAfterItsFormerSpaceIsFree) {
  ledger.world["radius/coa"] = [](int attempt) {
    return attempt < 8 ? effect_reply("unknown", "timeout", true)
                       : effect_reply("confirmed", "ack");
  };
  play.update("readdress:k", "readdress", readdress("k"));
  play.finish();
  EXPECT_FALSE(ledger.looks.empty());
  EXPECT_THAT(ledger.leaving, IsEmpty());
  EXPECT_EQ(std::ranges::count(ledger.log, "radius/coa"), 8);
}

TEST_F(Changes, ANewRunTakesUpTheGateOfFormerSpace) {
  ledger.leaving = {"ipv4"};
  ledger.gate_opens_after = 3;
  *ledger.pending.mutable_view() = ledger.view();
  ledger.pending.set_gate(true);
  play.signal("wake");
  play.finish();
  EXPECT_EQ(ledger.looks.size(), 4U);
  EXPECT_THAT(ledger.looks[0].families(), ElementsAre("ipv4"));
}

TEST_F(Changes, ARevokeCutsInAndReleasesBothSpaces) {
  ledger.gate_opens_after = 1'000'000;
  play.update("readdress:k", "readdress", readdress("k"));
  play.settle();
  play.update("revoke:r", "revoke", keyed<v1::RevokeRequest>("r"));
  play.settle();
  ledger.gate_opens_after = 0;
  play.finish();
  EXPECT_TRUE(answer("revoke:r").success());
  EXPECT_TRUE(play.closed());
  EXPECT_THAT(ledger.leaving, IsEmpty());
}

TEST_F(Changes, FormerSpaceThatIsForcedLeavesTheLineAsItIs) {
  ledger.gate_opens_after = 1'000'000;
  play.update("readdress:k", "readdress", readdress("k"));
  play.settle();
  ledger.gate_opens_after = 0;
  auto request = keyed<v1::ForceReleaseRequest>("f");
  request.mutable_caller()->set_actor("ann");
  request.mutable_caller()->set_reason("the client has gone");
  play.update("force_release:f", "force_release", request);
  play.finish();
  EXPECT_TRUE(answer("force_release:f").success());
  EXPECT_EQ(answer("force_release:f").state(), "active");
  EXPECT_THAT(ledger.leaving, IsEmpty());
}

TEST_F(Changes, AnUndonePlanPutsTheRowsBackBeforeItTellsTheSession) {
  ledger.undo_tells = true;
  ledger.world["radius/coa"] = [this](int) {
    return ledger.undone.empty() ? effect_reply("refused", "nak-401")
                                 : effect_reply("confirmed", "ack");
  };
  auto request = change_plan("k");
  request.set_on_coa_failure("fail");
  play.update("change_plan:k", "change_plan", request);
  play.finish();
  EXPECT_FALSE(answer("change_plan:k").success());
  EXPECT_EQ(answer("change_plan:k").code(), "coa_failed");
  EXPECT_THAT(ledger.log, ElementsAre("aaa/apply", "radius/coa", "aaa/apply", "radius/coa"));
}

}  // namespace
}  // namespace addrflow::workflows::testing
