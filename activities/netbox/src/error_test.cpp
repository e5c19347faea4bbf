#include "addrflow/netbox/error.hpp"

#include <gtest/gtest.h>

#include <fstream>
#include <string>

namespace addrflow::netbox {
namespace {

HttpResponse recorded(const std::string& name) {
  std::ifstream file{std::string(ADDRFLOW_NETBOX_CONTRACT "/") + name + ".json"};
  const auto exchange = nlohmann::json::parse(file).at("response");
  HttpResponse response{.status = exchange.at("status"), .headers = {}, .body = ""};
  for (const auto& [key, value] : exchange.at("headers").items()) response.headers[key] = value;
  const auto& body = exchange.at("body");
  const auto type = response.headers.find("content-type");
  const bool json = type != response.headers.end() && type->second == "application/json";
  if (json) response.body = body.dump();
  return response;
}

struct Case {
  const char* recording;
  ErrorKind kind;
  bool retryable = false;
  bool in_doubt = false;
};

TEST(NetboxErrors, EveryRecordedRefusalOfAWriteIsUnderstood) {
  using enum ErrorKind;
  const Case cases[] = {
      {"ip-create-specific-exists", kAddressTaken},
      {"ip-create-specific-exists-othermask", kAddressTaken},
      {"ip-create-invrf-dup", kAddressTaken},
      {"available-ips-post-duplicate-key", kKeyTaken},
      {"available-ips-post-badcf", kInvalid},
      {"available-prefixes-post-nolength", kInvalid},
      {"bulk-create-one-bad", kAddressTaken},
      {"err-bad-address", kInvalid},
      {"err-choice-cf", kInvalid},
      {"err-malformed-json", kInvalid},
      {"err-tag-unknown", kInvalid},
      {"err-405", kInvalid},
      {"err-406", kInvalid},
      {"err-wrong-content-type", kInvalid},
      {"err-400-host", kNotNetbox},
      {"err-404-path", kNotNetbox},
      {"err-noslash-get", kNotNetbox},
      {"auth-none", kDenied},
      {"auth-bad-v1", kDenied},
      {"auth-bad-v2", kDenied},
      {"auth-readonly-token", kDenied},
      {"auth-expired-token", kDenied},
      {"err-404-object", kNotFound},
      {"ip-patch-404", kNotFound},
      {"available-ips-exhausted", kExhausted},
      {"err-delete-protected", kConflict},
      {"ip-patch-ifmatch-stale", kChanged, true},
      {"db-down-reserve", kServer, true, true},
      {"redis-down-get", kServer, true, true},
  };
  for (const Case& one : cases) {
    SCOPED_TRACE(one.recording);
    const auto result = classify(recorded(one.recording), true);
    ASSERT_FALSE(result);
    EXPECT_EQ(code_of(result.error().kind), code_of(one.kind));
    EXPECT_EQ(result.error().retryable, one.retryable);
    EXPECT_EQ(result.error().in_doubt, one.in_doubt);
  }
}

TEST(NetboxErrors, EveryRecordedSuccessIsOne) {
  for (const char* name : {"ip-create-specific", "ip-get", "ip-patch", "ip-release-delete",
                           "lookup-by-cf-miss", "status", "v44-ip-patch-ifmatch"}) {
    EXPECT_TRUE(classify(recorded(name), true)) << name;
  }
}

TEST(NetboxErrors, AReadIsNeverInDoubt) {
  EXPECT_FALSE(classify(recorded("db-down-get"), false).error().in_doubt);
  EXPECT_FALSE(classify(HttpFailure{.message = "x"}, false).in_doubt);
}

TEST(NetboxErrors, AServersErrorTellsNothingOfItsInside) {
  EXPECT_EQ(classify(recorded("db-down-reserve"), true).error().message, "NetBox answered 500");
}

TEST(NetboxErrors, ARefusalNamesItsField) {
  EXPECT_EQ(classify(recorded("err-no-address"), true).error().message,
            "NetBox answered 400: address: This field is required.");
}

TEST(NetboxErrors, ATimeOutOfAWriteIsInDoubtAndAFailedConnectionIsNot) {
  EXPECT_TRUE(classify(HttpFailure{.sent = true, .timed_out = true, .message = ""}, true).in_doubt);
  EXPECT_FALSE(classify(HttpFailure{.sent = false, .message = ""}, true).in_doubt);
}

}  // namespace
}  // namespace addrflow::netbox
