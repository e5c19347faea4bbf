// What an operator may say to a running composition, and that it is put on record.
#include "testing/play.hpp"

#include <addrflow/v1/operators.pb.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <addrflow/workflows/registry.hpp>

namespace addrflow::workflows::testing {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

json said(const std::string& reason, const std::string& step = {}) {
  return {{"actor", "noc"}, {"reason", reason}, {"step", step}};
}

class Operators : public ::testing::Test {
 protected:
  Operators() {
    play.on(catalog::kComposeClaim, [](const v1::ComposeClaimRequest&) {
      v1::ComposeClaimReply reply;
      reply.set_outcome("claimed");
      return reply;
    });
    play.on(catalog::kComposeUpdate, [this](const v1::ComposeUpdateRequest& request) {
      updates.push_back(request.operation());
      if (out_of_order > 0) {
        --out_of_order;
        throw tempora::ApplicationError{"the ledger is away", "unavailable", false};
      }
      v1::ComposeUpdateReply reply;
      reply.mutable_result()->set_success(true);
      reply.mutable_result()->set_code("ok");
      reply.mutable_result()->set_address(request.operation() == "allocate" ? "203.0.113.7"
                                                                            : activated);
      reply.mutable_result()->set_state(request.operation() == "allocate" ? "allocated" : "active");
      return reply;
    });
    play.on(catalog::kComposeFinish, [](const v1::ComposeFinishRequest&) { return v1::Empty{}; });
    play.on(catalog::kAudit, [this](const v1::AuditRequest& request) {
      EXPECT_EQ(request.service().subscriber_id(), "42");
      audited.push_back(request.event() + " by " + request.actor() + " (" + request.code() +
                        "): " + request.detail());
      return v1::Empty{};
    });
  }

  v1::CompositionProgress progress() { return play.query<v1::CompositionProgress>("progress"); }
  bool completed() {
    return play.closed() &&
           play.closing_command() == enums::COMMAND_TYPE_COMPLETE_WORKFLOW_EXECUTION;
  }

  Play play{workflow_registry(), "ProvisionSubscriber", "order-1001",
            tempora::encode_all(json{{"tenant_id", "acme"}, {"customer_id", "42"}})};
  int out_of_order = 0;
  std::string activated = "203.0.113.7";
  std::vector<std::string> updates;
  std::vector<std::string> audited;
};

TEST_F(Operators, APausedCompositionBeginsNoStepUntilItIsResumed) {
  play.update("u1", "pause", said("a change of the core"));
  play.settle();
  EXPECT_EQ(progress().state(), "paused");
  EXPECT_EQ(progress().paused_by(), "noc");
  EXPECT_EQ(progress().paused_reason(), "a change of the core");
  EXPECT_FALSE(progress().paused_at().empty());
  EXPECT_THAT(updates, IsEmpty());
  EXPECT_TRUE(play.update_answered("u1"));
  play.update("u2", "resume", said("done"));
  play.finish();
  EXPECT_TRUE(completed());
  EXPECT_THAT(updates, ElementsAre("allocate", "activate"));
  EXPECT_THAT(audited,
              ElementsAre("composition pause by noc (ok): order-1001: a change of the core",
                          "composition resume by noc (ok): order-1001: done"));
}

TEST_F(Operators, APausedCompositionCanBeGivenUp) {
  play.signal("pause", said("wait"));
  play.settle();
  play.signal("give_up", said("the customer cancelled"));
  play.finish();
  EXPECT_THAT(play.failure()->message(), HasSubstr("given up by noc: the customer cancelled"));
  EXPECT_THAT(updates, IsEmpty());
  EXPECT_EQ(audited.size(), 2U);
}

TEST_F(Operators, ABlockedStepIsShownAndTriedAgainByItself) {
  out_of_order = 2;
  play.settle();
  EXPECT_EQ(progress().steps(0).status(), "blocked");
  EXPECT_EQ(progress().steps(0).last_error(), "the ledger is away");
  EXPECT_EQ(progress().steps(0).attempts(), 1);
  play.finish();
  EXPECT_TRUE(completed());
  EXPECT_THAT(updates, ElementsAre("allocate", "allocate", "allocate", "activate"));
}

TEST_F(Operators, ABlockedStepIsRetriedAtOnce) {
  out_of_order = 1;
  play.settle();
  ASSERT_EQ(progress().steps(0).status(), "blocked");
  play.update("u1", "retry", said("it is back"));
  play.settle();
  EXPECT_EQ(play.elapsed(), std::chrono::nanoseconds{0}) << "no pause between attempts was waited";
  EXPECT_TRUE(completed());
  const v1::StepProgress step = progress().steps(0);
  EXPECT_EQ(step.attempts(), 2);
  EXPECT_EQ(step.status(), "done");
  EXPECT_TRUE(step.has_started_at());
  EXPECT_TRUE(step.has_ended_at());
}

TEST_F(Operators, AStepUnderWayIsBegunAgain) {
  play.hold("compose_update");
  play.settle();
  play.signal("retry", said("it hangs"));
  play.settle();
  play.let_go("compose_update");
  play.finish();
  EXPECT_TRUE(completed());
  EXPECT_EQ(progress().steps(0).attempts(), 2);
}

TEST_F(Operators, OnlyOptionalStepsAreSkipped) {
  activated = "203.0.113.99";  // so that the last step would fail
  play.hold("compose_update");
  play.settle();
  EXPECT_FALSE(progress().steps(0).skippable());
  EXPECT_TRUE(progress().steps(2).optional());
  EXPECT_TRUE(progress().steps(2).skippable());
  play.update("u1", "skip", said("no need", "activate_ipv4_lifecycle"));
  play.update("u2", "skip", said("renumbered by hand", "verify"));
  play.update("u3", "skip", said("no need", "dance"));
  play.settle();
  EXPECT_THAT(play.update_failure("u1"), HasSubstr("illegal_transition"));
  EXPECT_THAT(play.update_failure("u3"), HasSubstr("there is no such step"));
  play.let_go("compose_update");
  play.finish();
  EXPECT_TRUE(completed());
  EXPECT_EQ(play.result<v1::CompositionResult>().steps(2).status(), "skipped");
  EXPECT_THAT(audited, ElementsAre("composition skip by noc (ok): order-1001: verify: renumbered "
                                   "by hand"));
}

TEST_F(Operators, NobodySaysAnythingWithoutANameAndAReason) {
  play.hold("compose_update");
  play.update("u1", "pause", json{{"actor", "noc"}});
  play.update("u2", "give_up", json{{"reason", "because"}});
  play.update("u3", "resume", said("not paused"));
  play.signal("pause", json{{"actor", "noc"}, {"rason", "because"}});
  play.settle();
  EXPECT_THAT(play.update_failure("u1"), HasSubstr("reason is required"));
  EXPECT_THAT(play.update_failure("u2"), HasSubstr("actor is required"));
  EXPECT_THAT(play.update_failure("u3"), HasSubstr("conflict"));
  EXPECT_EQ(progress().state(), "running");
  ASSERT_EQ(audited.size(), 1U);
  EXPECT_THAT(audited[0], HasSubstr("composition pause refused by signal (invalid_argument)"));
  play.let_go("compose_update");
  play.finish();
  EXPECT_TRUE(completed());
}

TEST_F(Operators, AfterTheEndNothingIsLeftToSay) {
  play.hold("compose_update");
  play.settle();
  play.update("u1", "give_up", said("wrong customer"));
  play.settle();
  EXPECT_EQ(progress().state(), "undoing");
  EXPECT_EQ(progress().given_up_by(), "noc");
  play.update("u2", "pause", said("stop"));
  play.settle();
  EXPECT_THAT(play.update_failure("u2"), HasSubstr("conflict"));
  play.let_go("compose_update");
  play.finish();
  EXPECT_TRUE(play.closed());
}

}  // namespace
}  // namespace addrflow::workflows::testing
