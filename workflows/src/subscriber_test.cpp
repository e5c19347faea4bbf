#include "testing/fake_ledger.hpp"
#include "testing/play.hpp"

#include <addrflow/v1/operators.pb.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <addrflow/workflows/registry.hpp>
#include <algorithm>

namespace addrflow::workflows::testing {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// The service's own workflow and the claim of compositions, as the composed workflows see them.
struct FakeService {
  std::vector<v1::ComposeClaimReply> claims;  // answers, in order; then "claimed"
  std::vector<v1::ComposeClaimRequest> asked;
  std::map<std::string, v1::LifecycleResult> answers;  // by operation
  std::vector<v1::ComposeUpdateRequest> updates;
  std::vector<v1::ComposeWaitRequest> waits;
  v1::ComposeWaitReply other;
  std::vector<v1::ComposeFinishRequest> finished;
  std::vector<v1::AuditRequest> audited;

  FakeService() {
    for (const auto& [operation, state] :
         {std::pair{"allocate", "allocated"}, std::pair{"activate", "active"},
          std::pair{"suspend", "suspended"}, std::pair{"reactivate", "active"},
          std::pair{"revoke", "revoked"}}) {
      v1::LifecycleResult& result = answers[operation];
      result.set_success(true);
      result.set_code("ok");
      result.set_state(state);
      result.set_address("203.0.113.7");
    }
  }

  void refuse(const std::string& operation, const std::string& code, const std::string& message) {
    answers[operation].set_success(false);
    answers[operation].set_code(code);
    answers[operation].set_message(message);
  }

  std::vector<std::string> operations() const {
    std::vector<std::string> names;
    for (const auto& update : updates) names.push_back(update.operation());
    return names;
  }

  void plays_in(Play& play) {
    play.on(catalog::kComposeClaim, [this](const v1::ComposeClaimRequest& request) {
      asked.push_back(request);
      v1::ComposeClaimReply reply;
      reply.set_outcome("claimed");
      if (asked.size() <= claims.size()) reply = claims[asked.size() - 1];
      return reply;
    });
    play.on(catalog::kComposeUpdate, [this](const v1::ComposeUpdateRequest& request) {
      updates.push_back(request);
      v1::ComposeUpdateReply reply;
      *reply.mutable_result() = answers.at(request.operation());
      return reply;
    });
    play.on(catalog::kComposeWait, [this](const v1::ComposeWaitRequest& request) {
      waits.push_back(request);
      return other;
    });
    play.on(catalog::kComposeFinish, [this](const v1::ComposeFinishRequest& request) {
      finished.push_back(request);
      return v1::Empty{};
    });
    play.on(catalog::kAudit, [this](const v1::AuditRequest& request) {
      audited.push_back(request);
      return v1::Empty{};
    });
  }
};

class Composed : public ::testing::Test {
 protected:
  Play& start(const std::string& type, const json& input, const std::string& id = "order-1001") {
    play_ = std::make_unique<Play>(workflow_registry(), type, id, tempora::encode_all(input));
    service.plays_in(*play_);
    return *play_;
  }
  Play& provision() {
    return start("ProvisionSubscriber", {{"tenant_id", "acme"}, {"customer_id", "42"}});
  }
  std::string failure_of(const Play& play) {
    const auto failure = play.failure();
    const auto* error = tempora::find_application_error(*failure);
    return (error ? error->type() : "?") + ": " + failure->message();
  }
  static v1::ComposeClaimReply other_runs(const std::string& outcome) {
    v1::ComposeClaimReply reply;
    reply.set_outcome(outcome);
    reply.set_workflow_id("other");
    reply.set_run_id("run-of-other");
    return reply;
  }

  FakeService service;

 private:
  std::unique_ptr<Play> play_;
};

TEST_F(Composed, ProvisionAllocatesActivatesAndVerifies) {
  Play& play = provision();
  play.finish();
  ASSERT_EQ(play.closing_command(), enums::COMMAND_TYPE_COMPLETE_WORKFLOW_EXECUTION);
  const auto result = play.result<v1::CompositionResult>();
  EXPECT_TRUE(result.success());
  EXPECT_EQ(result.context().ipv4_address(), "203.0.113.7");
  EXPECT_EQ(result.context().ipv4_lifecycle_state(), "ACTIVE");
  ASSERT_EQ(result.steps_size(), 3);
  EXPECT_EQ(result.steps(0).name(), "allocate_ip_handler");
  EXPECT_EQ(result.steps(1).name(), "activate_ipv4_lifecycle");
  EXPECT_EQ(result.steps(2).name(), "verify");
  for (const auto& step : result.steps()) EXPECT_EQ(step.status(), "done");
  EXPECT_THAT(service.operations(), ElementsAre("allocate", "activate"));
  EXPECT_EQ(service.updates[0].update_id(), "allocate:order-1001:allocate_ip_handler");
  EXPECT_EQ(service.updates[0].allocate().created_by(), "order-1001");
  ASSERT_EQ(service.finished.size(), 1U);
  EXPECT_TRUE(service.finished[0].result().success());
}

v1::BindingView& add_binding(v1::ServiceView& view, const std::string& family,
                             const std::string& state) {
  v1::BindingView& binding = *view.add_bindings();
  binding.set_family(family);
  binding.set_state(state);
  if (family == "ipv4") binding.set_address("203.0.113.7");
  if (family == "ipv6_pd") binding.set_prefix("2001:db8:1200::/56");
  return binding;
}

// Answers as of a line with both families.
void has_both(FakeService& service) {
  for (const auto& [operation, state] :
       {std::pair{"allocate", "allocated"}, std::pair{"activate", "active"},
        std::pair{"revoke", "revoked"}}) {
    v1::ServiceView& view = *service.answers[operation].mutable_service_view();
    add_binding(view, "ipv4", state);
    add_binding(view, "ipv6_pd", state);
  }
}

const json kBoth{
    {"tenant_id", "acme"}, {"customer_id", "42"}, {"enable_ipv6", true}, {"ipv6_pd_size", 56}};

TEST_F(Composed, BothFamiliesAreOneAllocateAndOneActivate) {
  has_both(service);
  Play& play = start("ProvisionSubscriber", kBoth);
  play.finish();
  ASSERT_EQ(play.closing_command(), enums::COMMAND_TYPE_COMPLETE_WORKFLOW_EXECUTION);
  const auto result = play.result<v1::CompositionResult>();
  EXPECT_EQ(result.context().ipv4_lifecycle_state(), "ACTIVE");
  EXPECT_EQ(result.context().ipv6_lifecycle_state(), "ACTIVE");
  EXPECT_EQ(result.context().ipv6_prefix(), "2001:db8:1200::/56");
  EXPECT_THAT(service.operations(), ElementsAre("allocate", "activate"));
  EXPECT_THAT(service.updates[0].allocate().families(), ElementsAre("ipv4", "ipv6_pd"));
  EXPECT_EQ(service.updates[0].allocate().ipv6_pd_size(), 56);
  EXPECT_THAT(service.updates[1].activate().families(), ElementsAre("ipv4", "ipv6_pd"));
  ASSERT_EQ(result.steps_size(), 4);
  EXPECT_EQ(result.steps(2).name(), "activate_ipv6_lifecycle");
  for (const auto& step : result.steps()) EXPECT_EQ(step.status(), "done") << step.name();
}

TEST_F(Composed, AnOptionalFamilyThatCannotBeHadIsSkippedAndSaysWhy) {
  add_binding(*service.answers["allocate"].mutable_service_view(), "ipv4", "allocated");
  service.answers["allocate"].set_message("ipv6_pd is left out: No available IP addresses");
  add_binding(*service.answers["activate"].mutable_service_view(), "ipv4", "active");
  json input = kBoth;
  input["optional_family"] = "ipv6_pd";
  Play& play = start("ProvisionSubscriber", input);
  play.finish();
  const auto result = play.result<v1::CompositionResult>();
  EXPECT_TRUE(result.success());
  EXPECT_EQ(service.updates[0].allocate().optional_family(), "ipv6_pd");
  EXPECT_THAT(service.updates[1].activate().families(), ElementsAre("ipv4"));
  EXPECT_EQ(result.steps(2).status(), "skipped");
  EXPECT_THAT(result.steps(2).message(), HasSubstr("No available IP addresses"));
}

TEST_F(Composed, AFamilyIsAddedToALiveLineWithoutTouchingTheOther) {
  has_both(service);
  v1::ComposeClaimReply claimed;
  claimed.set_outcome("claimed");
  add_binding(*claimed.mutable_view(), "ipv4", "active");
  service.claims = {claimed};
  json input = kBoth;
  input["ipv4_pool_id"] = "main";
  Play& play = start("ProvisionSubscriber", input);
  play.finish();
  const auto result = play.result<v1::CompositionResult>();
  EXPECT_TRUE(result.success());
  EXPECT_THAT(service.updates[0].allocate().families(), ElementsAre("ipv6_pd"));
  EXPECT_EQ(service.updates[0].allocate().ipv4_pool_id(), "main") << "the ledger compares it";
  EXPECT_THAT(service.updates[1].activate().families(), ElementsAre("ipv6_pd"));
  EXPECT_EQ(result.steps(1).name(), "activate_ipv4_lifecycle");
  EXPECT_EQ(result.steps(1).status(), "skipped");
}

TEST_F(Composed, AFailedAdditionTakesBackTheNewFamilyAndDoesNotCutTheLine) {
  has_both(service);
  v1::ComposeClaimReply claimed;
  claimed.set_outcome("claimed");
  add_binding(*claimed.mutable_view(), "ipv4", "active");
  service.claims = {claimed};
  service.refuse("activate", "coa_failed", "the NAS said no");
  Play& play = start("ProvisionSubscriber", kBoth);
  play.finish();
  EXPECT_EQ(failure_of(play), "coa_failed: the NAS said no");
  ASSERT_EQ(service.updates.size(), 3U);
  const v1::RevokeRequest& undo = service.updates[2].revoke();
  EXPECT_THAT(undo.families(), ElementsAre("ipv6_pd"));
  EXPECT_FALSE(undo.send_disconnect());
  EXPECT_EQ(undo.only_created_by(), "order-1001");
}

TEST_F(Composed, DeprovisionRevokesBothFamiliesInOneGo) {
  has_both(service);
  v1::ComposeClaimReply claimed;
  claimed.set_outcome("claimed");
  add_binding(*claimed.mutable_view(), "ipv4", "active");
  add_binding(*claimed.mutable_view(), "ipv6_pd", "active");
  service.claims = {claimed};
  Play& play =
      start("DeprovisionSubscriber", json{{"tenant_id", "acme"}, {"customer_id", "42"}}, "order-2");
  play.finish();
  const auto result = play.result<v1::CompositionResult>();
  EXPECT_THAT(service.operations(), ElementsAre("revoke"));
  EXPECT_EQ(result.context().ipv6_lifecycle_state(), "REVOKED");
  ASSERT_EQ(result.steps_size(), 3);
  EXPECT_EQ(result.steps(1).name(), "revoke_ipv6_lifecycle");
  for (const auto& step : result.steps()) EXPECT_EQ(step.status(), "done") << step.name();
}

TEST_F(Composed, SearchAttributesAreWrittenOnlyWhereTheyAreRegistered) {
  provision().finish();
  v1::ComposeClaimReply claimed;
  claimed.set_outcome("claimed");
  claimed.mutable_pace()->set_search_attributes(true);
  service.claims = {claimed, claimed};
  service.asked.clear();
  Play& play = provision();
  play.finish();
  const auto& events = play.history().events();
  const auto upserted = std::ranges::find_if(events, [](const auto& event) {
    return event.has_upsert_workflow_search_attributes_event_attributes();
  });
  ASSERT_NE(upserted, events.end());
  EXPECT_TRUE(upserted->upsert_workflow_search_attributes_event_attributes()
                  .search_attributes()
                  .indexed_fields()
                  .contains("AddrflowTenant"));
}

TEST_F(Composed, AFailedProvisionUndoesWhatItCreatedAndFails) {
  service.refuse("activate", "coa_failed", "the NAS said no");
  Play& play = provision();
  play.finish();
  EXPECT_EQ(failure_of(play), "coa_failed: the NAS said no");
  EXPECT_THAT(service.operations(), ElementsAre("allocate", "activate", "revoke"));
  EXPECT_EQ(service.updates[2].revoke().only_created_by(), "order-1001");
  const auto failure = play.failure();
  const auto result = tempora::find_application_error(*failure)->detail<v1::CompositionResult>();
  ASSERT_TRUE(result);
  EXPECT_FALSE(result->success());
  EXPECT_EQ(result->steps(0).status(), "undone");
  EXPECT_EQ(result->steps(1).status(), "refused");
  EXPECT_EQ(result->context().ipv4_address(), "");
}

TEST_F(Composed, WhatAnotherRequestHadAllocatedIsNotCalledUndone) {
  add_binding(*service.answers["allocate"].mutable_service_view(), "ipv4", "allocated");
  add_binding(*service.answers["activate"].mutable_service_view(), "ipv4", "active")
      .set_address("203.0.113.8");
  add_binding(*service.answers["revoke"].mutable_service_view(), "ipv4", "active");
  Play& play = provision();
  play.finish();
  EXPECT_THAT(failure_of(play), HasSubstr("conflict: the address changed"));
  EXPECT_THAT(failure_of(play), HasSubstr("; ipv4 203.0.113.7 is active and stays"));
  EXPECT_THAT(service.operations(), ElementsAre("allocate", "activate", "revoke"));
  const auto failure = play.failure();
  const auto result = tempora::find_application_error(*failure)->detail<v1::CompositionResult>();
  ASSERT_TRUE(result);
  EXPECT_EQ(result->steps(0).status(), "skipped");
  EXPECT_EQ(result->steps(1).status(), "done");
  EXPECT_THAT(result->steps(1).message(), HasSubstr("another request had allocated it"));
  EXPECT_EQ(result->context().ipv4_lifecycle_state(), "ACTIVE");
}

TEST_F(Composed, OfTwoFamiliesTheOneThatThisRequestBroughtIsUndone) {
  has_both(service);
  service.refuse("activate", "coa_failed", "the NAS said no");
  v1::ServiceView& left = *service.answers["revoke"].mutable_service_view();
  left.mutable_bindings(0)->set_state("allocated");
  Play& play = start("ProvisionSubscriber", kBoth);
  play.finish();
  EXPECT_EQ(failure_of(play), "coa_failed: the NAS said no") << "it is as it was before";
  const auto failure = play.failure();
  const auto result = tempora::find_application_error(*failure)->detail<v1::CompositionResult>();
  ASSERT_TRUE(result);
  EXPECT_EQ(result->steps(0).status(), "undone");
}

TEST_F(Composed, ARefusedAllocateHasNothingToUndo) {
  service.refuse("allocate", "pool_exhausted", "No available IP addresses");
  Play& play = provision();
  play.finish();
  EXPECT_EQ(failure_of(play), "pool_exhausted: No available IP addresses");
  EXPECT_THAT(service.operations(), ElementsAre("allocate"));
  EXPECT_EQ(service.finished.size(), 1U);
}

TEST_F(Composed, BadInputFailsAtOnceAndNamesTheField) {
  const std::vector<std::pair<json, std::string>> cases{
      {json::object(), "invalid_argument: tenant_id is required"},
      {{{"tenant_id", "acme"}}, "invalid_argument: subscriber_id is required"},
      {{{"tenant_id", "acme"}, {"customer_id", "a/b"}}, "invalid_argument: customer_id must match"},
      {{{"tenant_id", "acme"}, {"customer_id", "42"}, {"typo", 1}}, "invalid_argument: typo"},
      {{{"tenant_id", "acme"}, {"customer_id", 42}}, "invalid_argument: customer_id"},
      {{{"tenant_id", "acme"}, {"customer_id", "1"}, {"subscriber_id", "2"}},
       "invalid_argument: customer_id and subscriber_id differ"},
      {{{"tenant_id", "acme"}, {"customer_id", "42"}, {"ipv6_pd_size", 40}},
       "invalid_argument: ipv6_pd_size must be between 48 and 64"},
      {{{"tenant_id", "acme"}, {"customer_id", "42"}, {"requested_prefix", "2001:db8::/56"}},
       "invalid_argument: requested_prefix is given without enable_ipv6"},
      {{{"tenant_id", "acme"}, {"customer_id", "42"}, {"optional_family", "ipv6_pd"}},
       "invalid_argument: optional_family"},
      {{{"tenant_id", "acme"}, {"customer_id", "42"}, {"enable_ipv4", false}},
       "invalid_argument: enable_ipv4"},
      {{{"tenant_id", "acme"}, {"customer_id", "42"}, {"requested_address", "10.0.0.300"}},
       "invalid_argument: requested_address"},
      {{{"tenant_id", "acme"}, {"customer_id", "42"}, {"on_coa_failure", "panic"}},
       "invalid_argument: on_coa_failure"}};
  for (const auto& [input, expected] : cases) {
    Play& play = start("ProvisionSubscriber", input);
    play.finish();
    EXPECT_THAT(failure_of(play), HasSubstr(expected)) << input;
    EXPECT_THAT(play.activities(), IsEmpty()) << input;
  }
}

TEST_F(Composed, AnIdenticalOneJoinsAndSharesTheResult) {
  service.claims = {other_runs("join")};
  service.other.set_closed(true);
  service.other.mutable_result()->set_success(true);
  service.other.mutable_result()->mutable_context()->set_ipv4_address("203.0.113.9");
  Play& play = provision();
  play.finish();
  const auto result = play.result<v1::CompositionResult>();
  EXPECT_EQ(result.context().ipv4_address(), "203.0.113.9");
  EXPECT_EQ(result.joined_workflow_id(), "other");
  EXPECT_THAT(service.updates, IsEmpty());
  EXPECT_THAT(service.finished, IsEmpty());
}

TEST_F(Composed, AJoinedFailureIsSharedToo) {
  service.claims = {other_runs("join")};
  service.other.set_closed(true);
  service.other.mutable_result()->set_code("pool_exhausted");
  service.other.mutable_result()->set_message("No available IP addresses");
  Play& play = provision();
  play.finish();
  EXPECT_EQ(failure_of(play), "pool_exhausted: No available IP addresses");
}

TEST_F(Composed, ADifferentOneGetsConflict) {
  service.claims = {other_runs("busy")};
  Play& play = provision();
  play.finish();
  EXPECT_THAT(failure_of(play), HasSubstr("conflict: another request for this service"));
  ASSERT_EQ(service.waits.size(), 1U);
  EXPECT_TRUE(service.waits[0].look_only());
}

TEST_F(Composed, TheClaimOfADeadOneIsTakenOver) {
  service.claims = {other_runs("busy")};
  service.other.set_closed(true);
  service.other.set_status("terminated");
  Play& play = provision();
  play.finish();
  EXPECT_TRUE(play.result<v1::CompositionResult>().success());
  ASSERT_EQ(service.asked.size(), 2U);
  EXPECT_EQ(service.asked[1].take_over_from(), "run-of-other");
}

TEST_F(Composed, TheRecordedAnswerOfAKeyIsGivenAgain) {
  v1::ComposeClaimReply recorded;
  recorded.set_outcome("recorded");
  recorded.mutable_result()->set_success(true);
  recorded.mutable_result()->set_message("as it was");
  service.claims = {recorded};
  Play& play = provision();
  play.finish();
  EXPECT_EQ(play.result<v1::CompositionResult>().message(), "as it was");
  EXPECT_THAT(service.updates, IsEmpty());
}

TEST_F(Composed, ADeprovisionMakesARunningProvisionGiveUpFirst) {
  service.claims = {other_runs("preempt")};
  service.other.set_closed(true);
  Play& play = start("DeprovisionSubscriber",
                     {{"tenant_id", "acme"}, {"subscriber_id", "42"}, {"reason", "moved out"}});
  play.finish();
  EXPECT_TRUE(play.result<v1::CompositionResult>().success());
  ASSERT_EQ(service.waits.size(), 1U);
  EXPECT_TRUE(service.waits[0].give_up());
  EXPECT_THAT(service.operations(), ElementsAre("revoke"));
  EXPECT_EQ(service.updates[0].revoke().caller().reason(), "moved out");
  EXPECT_EQ(play.result<v1::CompositionResult>().context().ipv4_lifecycle_state(), "REVOKED");
}

TEST_F(Composed, AGivenUpProvisionStopsItsStepAndUndoes) {
  Play& play = provision();
  play.hold("compose_update");
  play.settle();
  EXPECT_EQ(play.query<v1::CompositionProgress>("progress").steps(0).status(), "running");
  play.signal("give_up", std::string{"the customer cancelled"});
  play.settle();  // the step ends as cancelled; the undo is under way
  EXPECT_EQ(play.query<v1::CompositionProgress>("progress").state(), "undoing");
  play.let_go("compose_update");
  play.finish();
  EXPECT_EQ(failure_of(play), "gave_up: given up: the customer cancelled");
  ASSERT_EQ(service.audited.size(), 1U);
  EXPECT_EQ(service.audited[0].event(), "composition give_up");
  EXPECT_THAT(service.operations(), ElementsAre("revoke"));
  EXPECT_EQ(service.updates[0].revoke().only_created_by(), "order-1001");
  EXPECT_EQ(service.finished.size(), 1U);
}

TEST_F(Composed, ACancelledProvisionUndoesAndEndsAsCancelled) {
  Play& play = provision();
  play.hold("compose_update");
  play.settle();
  play.cancel();
  play.settle();
  play.let_go("compose_update");
  play.finish();
  EXPECT_EQ(play.closing_command(), enums::COMMAND_TYPE_CANCEL_WORKFLOW_EXECUTION);
  EXPECT_THAT(service.operations(), ElementsAre("revoke"));
  EXPECT_EQ(service.finished.size(), 1U);
}

TEST_F(Composed, SuspendAndReactivateAreOneStepEach) {
  Play& suspend = start("SuspendSubscriber",
                        {{"tenant_id", "acme"}, {"subscriber_id", "42"}, {"reason", "billing"}});
  suspend.finish();
  EXPECT_EQ(suspend.result<v1::CompositionResult>().context().ipv4_lifecycle_state(), "SUSPENDED");
  Play& reactivate =
      start("ReactivateSubscriber", {{"tenant_id", "acme"}, {"subscriber_id", "42"}}, "again");
  reactivate.finish();
  EXPECT_EQ(reactivate.result<v1::CompositionResult>().context().ipv4_lifecycle_state(), "ACTIVE");
  EXPECT_THAT(service.operations(), ElementsAre("suspend", "reactivate"));
  EXPECT_EQ(service.updates[0].suspend().caller().reason(), "billing");
}

TEST_F(Composed, TheKeyIsTheWorkflowIdUnlessOneIsGiven) {
  start("SuspendSubscriber", {{"tenant_id", "acme"}, {"subscriber_id", "42"}}, "a/b").finish();
  start("SuspendSubscriber", {{"tenant_id", "acme"}, {"subscriber_id", "42"}, {"key", "k:1"}})
      .finish();
  ASSERT_EQ(service.asked.size(), 2U);
  EXPECT_EQ(service.asked[0].key(), "a:2Fb");
  EXPECT_EQ(service.asked[1].key(), "k:1");
  EXPECT_EQ(service.asked[0].request_hash(), service.asked[1].request_hash());
}

TEST(Cleanup, CountsWhatItDid) {
  Play play(workflow_registry(), "CleanupStaleAddresses", "cleanup");
  play.on(catalog::kCleanup, [](const v1::CleanupRequest& request) {
    EXPECT_EQ(request.family(), "ipv4");
    v1::CleanupResult result;
    result.set_revoked_deleted(3);
    return result;
  });
  play.finish();
  EXPECT_EQ(play.result<v1::CleanupResult>().revoked_deleted(), 3);
}

}  // namespace
}  // namespace addrflow::workflows::testing
