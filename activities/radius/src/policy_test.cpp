#include "addrflow/radius/policy.hpp"

#include <gtest/gtest.h>

namespace addrflow::radius {
namespace {

constexpr Operation kCoas[] = {Operation::kRestore, Operation::kRestrict};

Outcome nak(std::optional<std::uint32_t> cause) {
  return {.kind = Outcome::Kind::kNak, .error_cause = cause, .sendings = 1};
}

void expect(const Decision& decision, std::string_view status, bool retry,
            Next next = Next::kDone) {
  EXPECT_EQ(decision.reply.status(), status) << decision.reply.ShortDebugString();
  EXPECT_EQ(decision.reply.retry(), retry) << decision.reply.ShortDebugString();
  EXPECT_EQ(decision.next, next);
}

TEST(Decide, AckConfirms) {
  for (const auto operation : {Operation::kRestore, Operation::kRestrict, Operation::kDisconnect}) {
    const auto decision = decide(operation, {.kind = Outcome::Kind::kAck}, {});
    expect(decision, "confirmed", false);
    EXPECT_EQ(decision.reply.code(), "ack");
  }
}

TEST(Decide, TimeoutIsUnknownAndNeverFailure) {
  for (const auto operation : {Operation::kRestore, Operation::kDisconnect}) {
    expect(decide(operation, {.kind = Outcome::Kind::kTimeout}, {.attempt = 99}), "unknown", true);
  }
}

TEST(Decide, NotSentIsRetried) {
  expect(decide(Operation::kRestore, {.kind = Outcome::Kind::kLocalError}, {}), "refused", true);
}

TEST(Decide, ResidualContextRemovedIsSuccessOfDisconnect) {
  expect(decide(Operation::kDisconnect, nak(201), {}), "confirmed", false);
}

TEST(Decide, UnsupportedAttributeIsFinalOrFallsBackToDisconnect) {
  for (const auto operation : kCoas) {
    expect(decide(operation, nak(401), {}), "refused", false);
    expect(decide(operation, nak(401), {.disconnect_allowed = true}), "refused", false,
           Next::kDisconnect);
  }
  expect(decide(Operation::kDisconnect, nak(401), {.disconnect_allowed = true}), "refused", false);
}

TEST(Decide, MissingAttributeInvalidRequestAndValueLookAgainOnce) {
  for (const auto operation : {Operation::kRestore, Operation::kRestrict, Operation::kDisconnect}) {
    for (const std::uint32_t cause : {402U, 404U, 407U}) {
      expect(decide(operation, nak(cause), {}), "refused", false, Next::kLookAgain);
      expect(decide(operation, nak(cause), {.looked_again = true}), "refused", false);
    }
  }
}

TEST(Decide, NasIdentificationMismatchIsFinal) {
  expect(decide(Operation::kRestrict, nak(403), {}), "refused", false);
  expect(decide(Operation::kDisconnect, nak(403), {}), "refused", false);
}

TEST(Decide, UnsupportedServiceIsFinalOrFallsBack) {
  expect(decide(Operation::kRestrict, nak(405), {}), "refused", false);
  expect(decide(Operation::kRestrict, nak(405), {.disconnect_allowed = true}), "refused", false,
         Next::kDisconnect);
  expect(decide(Operation::kDisconnect, nak(405), {}), "refused", false);
}

TEST(Decide, UnsupportedExtensionIsRetriedSlowlyForDisconnectOnly) {
  expect(decide(Operation::kRestrict, nak(406), {}), "refused", false);
  expect(decide(Operation::kRestrict, nak(406), {.disconnect_allowed = true}), "refused", false,
         Next::kDisconnect);
  const auto decision = decide(Operation::kDisconnect, nak(406), {});
  expect(decision, "refused", true);
  EXPECT_GE(decision.reply.retry_after_ms(), 60'000);
}

TEST(Decide, AdministrativelyProhibitedIsForAnOperator) {
  expect(decide(Operation::kRestrict, nak(501), {}), "refused", false);
  expect(decide(Operation::kDisconnect, nak(501), {}), "refused", false);
}

TEST(Decide, ProxyTroubleIsRetriedAfterLongWaits) {
  for (const std::uint32_t cause : {502U, 505U}) {
    for (const auto operation : {Operation::kRestrict, Operation::kDisconnect}) {
      const auto decision = decide(operation, nak(cause), {.attempt = 50});
      expect(decision, "refused", true);
      EXPECT_GE(decision.reply.retry_after_ms(), 10'000);
    }
  }
}

TEST(Decide, NothingToDisconnectIsSuccess) {
  const auto decision = decide(Operation::kDisconnect, nak(503), {});
  expect(decision, "not_applicable", false);
  EXPECT_EQ(decision.reply.code(), "session-not-found");
}

TEST(Decide, CoaToUnknownSessionLooksIntoAccountingFirst) {
  for (const auto operation : kCoas) {
    expect(decide(operation, nak(503), {}), "refused", false, Next::kLookAgain);
    expect(decide(operation, nak(503), {.looked_again = true}), "not_applicable", false);
    expect(decide(operation, nak(503), {.looked_again = true, .same_session_open = true}),
           "refused", true);
    expect(decide(operation, nak(503), {.looked_again = true, .another_session_open = true}),
           "refused", true);
  }
}

TEST(Decide, ContextNotRemovableIsRetriedAFewTimes) {
  expect(decide(Operation::kDisconnect, nak(504), {.attempt = 1}), "refused", true);
  expect(decide(Operation::kDisconnect, nak(504), {.attempt = kFewAttempts}), "refused", false);
}

TEST(Decide, ResourcesUnavailableIsRetriedForEver) {
  for (const auto operation : {Operation::kRestrict, Operation::kDisconnect}) {
    expect(decide(operation, nak(506), {.attempt = 1'000}), "refused", true);
  }
}

TEST(Decide, RequestInitiatedIsNoFailure) {
  for (const auto operation : kCoas) {
    const auto decision = decide(operation, nak(507), {});
    expect(decision, "confirmed", false);
    EXPECT_EQ(decision.reply.error_cause(), 507);
  }
}

TEST(Decide, SeveralSessionsMatchedLooksAgainThenAFewTimes) {
  expect(decide(Operation::kRestrict, nak(508), {}), "refused", false, Next::kLookAgain);
  expect(decide(Operation::kRestrict, nak(508), {.looked_again = true}), "refused", true);
  expect(decide(Operation::kRestrict, nak(508), {.attempt = kFewAttempts, .looked_again = true}),
         "refused", false);
}

TEST(Decide, NakWithoutCauseIsRetriedAFewTimes) {
  expect(decide(Operation::kRestrict, nak({}), {}), "refused", true);
  expect(decide(Operation::kDisconnect, nak({}), {.attempt = kFewAttempts}), "refused", false);
}

TEST(Decide, OtherCausesFinalBelow500AndRetriedAFewTimesAbove) {
  expect(decide(Operation::kRestrict, nak(499), {}), "refused", false);
  expect(decide(Operation::kRestrict, nak(599), {}), "refused", true);
  expect(decide(Operation::kRestrict, nak(599), {.attempt = kFewAttempts}), "refused", false);
}

TEST(Decide, CauseTravelsInTheReply) {
  const auto decision = decide(Operation::kRestrict, nak(403), {});
  EXPECT_EQ(decision.reply.error_cause(), 403);
  EXPECT_EQ(decision.reply.code(), "nak-403");
  EXPECT_NE(decision.reply.detail().find("NAS identification mismatch"), std::string::npos);
}

TEST(NoSession, IsSuccess) {
  EXPECT_EQ(no_session().status(), "not_applicable");
  EXPECT_EQ(no_session().code(), "no-session");
}

}  // namespace
}  // namespace addrflow::radius
