// What a person does about a line that broke off, and about an effect that will never be confirmed.
#include "testing/fake_ledger.hpp"
#include "testing/play.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <addrflow/workflows/registry.hpp>

namespace addrflow::workflows::testing {
namespace {

using domain::State;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class RepairedLine : public ::testing::Test {
 protected:
  RepairedLine() : play(workflow_registry(), "ServiceLifecycle", "service/acme/42/internet") {
    ledger.plays_in(play);
  }
  template <class Request>
  static Request request(const std::string& key) {
    Request request;
    request.mutable_caller()->set_key(key);
    request.mutable_caller()->set_actor("ann");
    request.mutable_caller()->set_reason("by hand");
    return request;
  }
  v1::LifecycleResult answer(const std::string& id) {
    return play.update_result<v1::LifecycleResult>(id);
  }
  FakeLedger ledger;
  Play play;
};

TEST_F(RepairedLine, ARetryOfAFailedActivateActivates) {
  ledger.state = State::kFailed;
  ledger.held = {"ipv4"};
  play.on(catalog::kClaim, [this](const v1::ClaimRequest& asked) {
    v1::ClaimReply reply = ledger.claim(asked);
    reply.mutable_view()->mutable_bindings(0)->set_allocated_at("2026-01-15T10:00:00Z");
    return reply;
  });
  play.update("retry:a", "retry", request<v1::RetryRequest>("a"));
  play.finish();
  EXPECT_EQ(answer("retry:a").state(), "active");
  ASSERT_EQ(ledger.moves.size(), 1U);
  EXPECT_EQ(ledger.moves[0].state(), "active");
  EXPECT_THAT(ledger.log, ::testing::UnorderedElementsAre("aaa/apply", "netbox/set_active"));
}

TEST_F(RepairedLine, ARetryOfAFailedAllocateKeepsTheSpaceThatItHolds) {
  ledger.state = State::kFailed;
  ledger.held = {"ipv4"};
  play.update("retry:a", "retry", request<v1::RetryRequest>("a"));
  play.finish();
  EXPECT_EQ(answer("retry:a").state(), "allocated");
  EXPECT_TRUE(ledger.reserved.empty());
}

TEST_F(RepairedLine, ARetryOfAFailedAllocateWithoutSpaceReservesAnew) {
  ledger.state = State::kFailed;
  play.update("retry:a", "retry", request<v1::RetryRequest>("a"));
  play.finish();
  EXPECT_EQ(answer("retry:a").state(), "allocated");
  EXPECT_EQ(ledger.reserved.size(), 1U);
}

TEST_F(RepairedLine, ARetryOfWhatIsOnItsWayOutRevokesAgain) {
  ledger.state = State::kRevoking;
  ledger.held = {"ipv4"};
  play.update("retry:a", "retry", request<v1::RetryRequest>("a"));
  play.finish();
  EXPECT_EQ(answer("retry:a").state(), "revoked");
  EXPECT_THAT(ledger.log, ::testing::Contains("radius/disconnect"));
}

TEST_F(RepairedLine, AdoptedAsSuspendedItHasAHold) {
  ledger.state = State::kFailed;
  ledger.held = {"ipv4"};
  auto adopt = request<v1::AdoptRequest>("a");
  adopt.set_state("suspended");
  play.update("adopt:a", "adopt", adopt);
  play.finish();
  EXPECT_EQ(answer("adopt:a").state(), "suspended");
  EXPECT_THAT(ledger.holds, ElementsAre("operator"));
}

TEST_F(RepairedLine, WhatIsReleasedByForceIsTakenFromAaaToo) {
  ledger.state = State::kFailed;
  ledger.held = {"ipv4"};
  play.update("force_release:a", "force_release", request<v1::ForceReleaseRequest>("a"));
  play.finish();
  EXPECT_EQ(answer("force_release:a").state(), "revoked");
  EXPECT_THAT(ledger.log, ElementsAre("aaa/apply"));
}

TEST_F(RepairedLine, NobodyAdoptsOrForcesWithoutANameAndAReason) {
  ledger.state = State::kFailed;
  v1::AdoptRequest adopt;
  adopt.set_state("active");
  v1::ForceReleaseRequest force;
  force.mutable_caller()->set_actor("ann");
  play.update("adopt:a", "adopt", adopt);
  play.update("force_release:a", "force_release", force);
  play.finish();
  EXPECT_THAT(play.update_failure("adopt:a"), HasSubstr("caller.actor"));
  EXPECT_THAT(play.update_failure("force_release:a"), HasSubstr("caller.reason"));
}

TEST_F(RepairedLine, AnAbandonedDisconnectHoldsTheRevokeUpNoLonger) {
  ledger.state = State::kActive;
  ledger.held = {"ipv4"};
  ledger.world["radius/disconnect"] = [](int attempt) {
    return attempt < 3 ? effect_reply("unknown", "timeout", true) : effect_reply("abandoned");
  };
  ledger.gate_opens_after = 6;  // it wants evidence, whatever was abandoned
  play.update("revoke:a", "revoke", request<v1::RevokeRequest>("a"));
  play.finish();
  EXPECT_EQ(ledger.state, State::kRevoked);
  EXPECT_TRUE(play.closed());
}

}  // namespace
}  // namespace addrflow::workflows::testing
