#include <google/protobuf/util/message_differencer.h>
#include <gtest/gtest.h>
#include <temporal/api/update/v1/message.pb.h>
#include <temporal/api/workflowservice/v1/request_response.pb.h>

#include <tempora/codec.hpp>

namespace tempora {
namespace {

namespace api = temporal::api::workflowservice::v1;
using google::protobuf::util::MessageDifferencer;

const std::string kOld(32, 'o');
const std::string kNew(32, 'n');

CodecOptions aes(std::map<std::string, std::string> keys, std::string write_with) {
  return {.codecs = {std::make_shared<AesGcmCodec>(std::move(keys), std::move(write_with))},
          .encode_failures = true};
}

// A message with payloads wherever they hide.
api::RespondWorkflowTaskCompletedRequest everywhere() {
  api::RespondWorkflowTaskCompletedRequest request;
  auto* activity = request.add_commands()->mutable_schedule_activity_task_command_attributes();
  *activity->mutable_input() = encode_all(std::string{"secret"}, 2);
  auto* child = request.add_commands()->mutable_start_child_workflow_execution_command_attributes();
  (*child->mutable_memo()->mutable_fields())["note"] = PayloadCodec<std::string>::encode("secret");
  auto* marker = request.add_commands()->mutable_record_marker_command_attributes();
  (*marker->mutable_details())["data"] = encode_all(std::string{"secret"});
  *request.mutable_commands(0)->mutable_user_metadata()->mutable_summary() =
      PayloadCodec<std::string>::encode("secret");
  temporal::api::update::v1::Response update;
  *update.mutable_outcome()->mutable_success() = encode_all(std::string{"secret"});
  request.add_messages()->mutable_body()->PackFrom(update);
  auto* failure = request.add_commands()
                      ->mutable_fail_workflow_execution_command_attributes()
                      ->mutable_failure();
  failure->set_message("secret message");
  failure->mutable_cause()->set_message("secret cause");
  failure->mutable_cause()->set_stack_trace("secret trace");
  return request;
}

TEST(Codec, ReachesEveryPayloadAndBringsItBack) {
  const CodecOptions options = aes({{"a", kOld}}, "a");
  const auto plain = everywhere();
  auto message = plain;
  encode_payloads(message, options);
  EXPECT_EQ(message.SerializeAsString().find("secret"), std::string::npos) << message.DebugString();
  EXPECT_EQ(message.commands(3).fail_workflow_execution_command_attributes().failure().message(),
            "Encoded failure");
  decode_payloads(message, options);
  EXPECT_TRUE(MessageDifferencer::Equals(message, plain)) << message.DebugString();
}

TEST(Codec, LeavesSearchAttributesAndHeadersToTheServer) {
  api::StartWorkflowExecutionRequest request;
  (*request.mutable_search_attributes()->mutable_indexed_fields())["Tenant"] =
      PayloadCodec<std::string>::encode("t");
  (*request.mutable_header()->mutable_fields())["trace"] = PayloadCodec<std::string>::encode("h");
  const auto plain = request;
  encode_payloads(request, aes({{"a", kOld}}, "a"));
  EXPECT_TRUE(MessageDifferencer::Equals(request, plain)) << request.DebugString();
}

TEST(Codec, AKeyIsRotatedByAddingThenWritingThenRemoving) {
  Payloads written = encode_all(std::string{"old"});
  encode_payloads(written, aes({{"old", kOld}}, "old"));
  Payloads rotated = encode_all(std::string{"new"});
  const CodecOptions both = aes({{"old", kOld}, {"new", kNew}}, "new");
  encode_payloads(rotated, both);
  EXPECT_EQ(rotated.payloads(0).metadata().at("encryption-key-id"), "new");
  for (Payloads* payloads : {&written, &rotated}) decode_payloads(*payloads, both);
  EXPECT_EQ(decode_argument<std::string>(written), "old");
  EXPECT_EQ(decode_argument<std::string>(rotated), "new");
}

TEST(Codec, WhatCannotBeOpenedStaysAndSaysSoWhenItIsRead) {
  Payloads payloads = encode_all(std::string{"x"});
  encode_payloads(payloads, aes({{"old", kOld}}, "old"));
  Payloads changed = payloads;
  changed.mutable_payloads(0)->mutable_data()->back() ^= 1;
  decode_payloads(changed, aes({{"old", kOld}}, "old"));
  EXPECT_THROW(decode_argument<std::string>(changed), PayloadError);
  Payloads other = payloads;
  decode_payloads(other, aes({{"old", kNew}}, "old"));
  EXPECT_TRUE(MessageDifferencer::Equals(other, payloads));
  EXPECT_TRUE(detail::is_still_encoded(other.payloads(0)));
}

TEST(Codec, TheSameTextIsNeverTheSameCipher) {
  Payloads one = encode_all(std::string{"x"});
  Payloads two = one;
  const CodecOptions options = aes({{"a", kOld}}, "a");
  encode_payloads(one, options);
  encode_payloads(two, options);
  EXPECT_NE(one.payloads(0).data(), two.payloads(0).data());
}

TEST(Codec, NamesTheKeyThatCannotBe) {
  EXPECT_THROW(AesGcmCodec({{"short", "x"}}, "short"), std::invalid_argument);
  EXPECT_THROW(AesGcmCodec({{"a", kOld}}, "b"), std::invalid_argument);
}

TEST(Codec, TheAnswerToAQueryDoesNotSayInPlainTextWhatItsFailureHides) {
  CodecOptions options = aes({{"a", kOld}}, "a");
  options.encode_failures = false;
  api::RespondQueryTaskCompletedRequest legacy;
  legacy.set_error_message("secret");
  legacy.mutable_failure()->set_message("secret");
  api::RespondWorkflowTaskCompletedRequest completion;
  auto& result = (*completion.mutable_query_results())["q"];
  result.set_error_message("secret");
  result.mutable_failure()->set_message("secret");
  const auto plain = legacy;
  encode_payloads(legacy, options);
  EXPECT_TRUE(MessageDifferencer::Equals(legacy, plain)) << "failures are not to be encoded";
  options.encode_failures = true;
  encode_payloads(legacy, options);
  encode_payloads(completion, options);
  EXPECT_EQ(legacy.error_message(), "Encoded failure");
  EXPECT_EQ(completion.query_results().at("q").error_message(), "Encoded failure");
  EXPECT_EQ(completion.SerializeAsString().find("secret"), std::string::npos);
}

// Each adds its own letter, and takes it away.
struct Letter final : Codec {
  explicit Letter(char letter) : letter(letter) {}
  std::vector<Payload> encode(std::vector<Payload> payloads) const override {
    for (Payload& payload : payloads) payload.mutable_data()->push_back(letter);
    return payloads;
  }
  std::vector<Payload> decode(std::vector<Payload> payloads) const override {
    for (Payload& payload : payloads) {
      if (payload.data().back() != letter) throw PayloadError{"another was outside"};
      payload.mutable_data()->pop_back();
    }
    return payloads;
  }
  char letter;
};

TEST(Codec, TheFirstIsTheOutermost) {
  const CodecOptions options{
      .codecs = {std::make_shared<Letter>('a'), std::make_shared<Letter>('b')}};
  Payloads payloads = encode_all(1);
  encode_payloads(payloads, options);
  EXPECT_EQ(payloads.payloads(0).data(), "1ba");
  decode_payloads(payloads, options);
  EXPECT_EQ(payloads.payloads(0).data(), "1");
}

}  // namespace
}  // namespace tempora
