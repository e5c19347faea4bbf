#include "answers.hpp"

#include <gtest/gtest.h>
#include <addrflow/catalog/payload.hpp>

namespace addrflow::compose {
namespace {

using tempora::ApplicationError;
using tempora::ClientError;
using tempora::ErrorCode;

ClientError failed_with(ErrorCode code, const ApplicationError& failure) {
  ClientError error;
  error.code = code;
  error.failure = std::make_shared<ApplicationError>(failure);
  return error;
}

TEST(Answers, ARefusedUpdateIsAResult) {
  const auto error =
      failed_with(ErrorCode::kUpdateFailed,
                  ApplicationError{"No available IP addresses", "pool_exhausted", true});
  const auto refused = refusal_in(error, "allocate");
  ASSERT_TRUE(refused);
  EXPECT_FALSE(refused->success());
  EXPECT_EQ(refused->code(), "pool_exhausted");
  EXPECT_EQ(refused->message(), "No available IP addresses");
  EXPECT_EQ(refused->operation(), "allocate");
}

TEST(Answers, WhatSaysNothingAboutTheRequestIsTriedAgain) {
  EXPECT_FALSE(refusal_in(failed_with(ErrorCode::kUpdateFailed,
                                      ApplicationError{"", "AcceptedUpdateCompletedWorkflow"}),
                          "allocate"));
  EXPECT_FALSE(refusal_in(
      failed_with(ErrorCode::kUpdateFailed, ApplicationError{"", "unavailable"}), "allocate"));
  ClientError unavailable;
  unavailable.code = ErrorCode::kUnavailable;
  EXPECT_FALSE(refusal_in(unavailable, "allocate"));
}

TEST(Answers, AFailedCompositionCarriesItsResult) {
  v1::CompositionResult result;
  result.set_code("coa_failed");
  const auto ended = end_in(
      failed_with(ErrorCode::kWorkflowFailed, ApplicationError{"no", "coa_failed", true, result}));
  ASSERT_TRUE(ended);
  EXPECT_EQ(ended->status(), "failed");
  EXPECT_EQ(ended->result().code(), "coa_failed");
}

TEST(Answers, AnEndWithoutAResultIsStillAnEnd) {
  for (const auto& [code, status] : {std::pair{ErrorCode::kWorkflowTerminated, "terminated"},
                                     std::pair{ErrorCode::kWorkflowCanceled, "canceled"},
                                     std::pair{ErrorCode::kWorkflowTimedOut, "timed_out"},
                                     std::pair{ErrorCode::kNotFound, "not_found"}}) {
    ClientError error;
    error.code = code;
    const auto ended = end_in(error);
    ASSERT_TRUE(ended);
    EXPECT_TRUE(ended->closed());
    EXPECT_EQ(ended->status(), status);
    EXPECT_FALSE(ended->has_result());
  }
  ClientError limit;
  limit.code = ErrorCode::kTimeLimit;
  EXPECT_FALSE(end_in(limit));
}

}  // namespace
}  // namespace addrflow::compose
