#include "codec_endpoint.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace tempora::detail {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Key;
using ::testing::Not;
using ::testing::Pair;

CodecOptions secret() {
  return {.codecs = {std::make_shared<AesGcmCodec>(
              std::map<std::string, std::string>{{"key", std::string(32, 'k')}}, "key")}};
}

const CodecEndpoint kServer{secret(), {"https://ui.example"}, nullptr};

// One payload {"greeting": "hello"}, as the UI sends it.
const std::string kHello =
    R"({"payloads":[{"metadata":{"encoding":"anNvbi9wbGFpbg=="},"data":"ImhlbGxvIg=="}]})";

CodecAnswer post(const CodecEndpoint& server, std::string_view path, std::string_view body,
                 std::string_view origin = {}) {
  return server.answer({.method = "POST", .path = path, .origin = origin, .body = body});
}

TEST(CodecEndpoint, DecodesWhatItEncoded) {
  const auto encoded = post(kServer, "/encode", kHello);
  ASSERT_EQ(encoded.status, 200) << encoded.body;
  EXPECT_THAT(encoded.body, Not(HasSubstr("ImhlbGxvIg==")));
  EXPECT_THAT(encoded.headers, Contains(Pair("Content-Type", "application/json")));
  const auto decoded = post(kServer, "/namespaces/default/decode", encoded.body);
  EXPECT_EQ(nlohmann::json::parse(decoded.body), nlohmann::json::parse(kHello));
}

TEST(CodecEndpoint, LeavesWhatItCannotDecodeAsItIs) {
  const CodecEndpoint other{
      {.codecs = {std::make_shared<AesGcmCodec>(
           std::map<std::string, std::string>{{"other", std::string(32, 'o')}}, "other")}},
      {},
      nullptr};
  const auto encoded = post(kServer, "/encode", kHello);
  const auto answer = post(other, "/decode", encoded.body);
  EXPECT_EQ(answer.status, 200);
  EXPECT_EQ(nlohmann::json::parse(answer.body), nlohmann::json::parse(encoded.body));
}

TEST(CodecEndpoint, RefusesWhatItDoesNotUnderstand) {
  EXPECT_EQ(post(kServer, "/", kHello).status, 404U);
  EXPECT_EQ(kServer.answer({.method = "GET", .path = "/decode"}).status, 405U);
  EXPECT_EQ(post(kServer, "/decode", "[]").status, 400U);
  EXPECT_EQ(post(kServer, "/decode", R"({"payloads":[{"data":"?"}]})").status, 400U);
  EXPECT_EQ(post(kServer, "/decode", "").status, 400U);
  EXPECT_EQ(post(kServer, "/decode", R"({"payloads":[],"later":1})").status, 200U);
}

TEST(CodecEndpoint, LetsTheOriginsAskThatWereNamed) {
  const auto asked =
      kServer.answer({.method = "OPTIONS", .path = "/decode", .origin = "https://ui.example"});
  EXPECT_EQ(asked.status, 204U);
  EXPECT_THAT(asked.headers, Contains(Pair("Access-Control-Allow-Origin", "https://ui.example")));
  EXPECT_THAT(asked.headers,
              Contains(Pair("Access-Control-Allow-Headers", HasSubstr("X-Namespace"))));
  EXPECT_THAT(asked.headers, Contains(Pair("Access-Control-Allow-Credentials", "true")));
  const auto posted = post(kServer, "/decode", kHello, "https://ui.example");
  EXPECT_EQ(posted.status, 200U);
  EXPECT_THAT(posted.headers, Contains(Pair("Access-Control-Allow-Origin", "https://ui.example")));

  const auto stranger = post(kServer, "/decode", kHello, "https://evil.example");
  EXPECT_EQ(stranger.status, 403U);
  EXPECT_THAT(stranger.headers, Not(Contains(Key("Access-Control-Allow-Origin"))));
  EXPECT_THAT(stranger.body, Not(HasSubstr("payloads")));
}

TEST(CodecEndpoint, GivesNoCredentialsToAllOrigins) {
  const CodecEndpoint open{secret(), {"*"}, nullptr};
  const auto answer = post(open, "/decode", kHello, "https://any.example");
  EXPECT_EQ(answer.status, 200U);
  EXPECT_THAT(answer.headers, Contains(Pair("Access-Control-Allow-Origin", "*")));
  EXPECT_THAT(answer.headers, Not(Contains(Key("Access-Control-Allow-Credentials"))));
}

TEST(CodecEndpoint, AsksWhetherTheCallerMay) {
  const CodecEndpoint strict{secret(), {}, [](const CodecCaller& caller) {
                               return caller.decodes && caller.namespace_ == "mine" &&
                                      caller.authorization == "Bearer x";
                             }};
  detail::CodecRequest request{.method = "POST",
                               .path = "/decode",
                               .namespace_ = "mine",
                               .authorization = "Bearer x",
                               .body = kHello};
  EXPECT_EQ(strict.answer(request).status, 200U);
  request.path = "/encode";
  EXPECT_EQ(strict.answer(request).status, 403U);
  request.path = "/decode";
  request.namespace_ = "other";
  EXPECT_EQ(strict.answer(request).status, 403U);
}

}  // namespace
}  // namespace tempora::detail
