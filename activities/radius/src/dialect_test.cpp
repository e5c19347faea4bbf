#include "addrflow/radius/dialect.hpp"

#include <gtest/gtest.h>

#include <stdexcept>

namespace addrflow::radius {
namespace {

const Dialects& built_in() {
  static const Dialects kBuiltIn;
  return kBuiltIn;
}

ports::Session session() {
  ports::Session session;
  session.acct_session_id = "81a0";
  session.username = "sub1";
  session.nas_ip = "192.0.2.1";
  session.framed_ip = "203.0.113.7";
  return session;
}

TEST(Dialects, BuiltInOnesParseAndSayThatNoDeviceWasTried) {
  const Dialects dialects;
  EXPECT_GE(dialects.names().size(), 4U);
  for (const auto& name : dialects.names()) EXPECT_FALSE(dialects.find(name)->tested) << name;
  EXPECT_EQ(dialects.find("no such"), nullptr);
}

TEST(Dialects, NoDisconnectOfPlainRfcCarriesMoreThanIdentifiers) {
  const Dialect& plain = *built_in().find("rfc5176");
  ports::NasRecord nas;
  nas.nas_ip = "192.0.2.1";
  const auto attributes = fill(plain.identify_disconnect, variables_of(session(), nas), true);
  ASSERT_TRUE(attributes);
  for (const auto& attribute : *attributes) {
    EXPECT_TRUE(attribute.type == 1 || attribute.type == 4 || attribute.type == 44)
        << int{attribute.type};
  }
  EXPECT_EQ(attributes->size(), 3U);
}

TEST(Dialects, NewAddressNeverGoesIntoCoaOfPlainRfc) {
  const Dialect& plain = *built_in().find("rfc5176");
  for (const auto* items : {&plain.identify_coa, &plain.full, &plain.restricted}) {
    for (const auto& item : *items) EXPECT_NE(item.name, "Framed-IP-Address");
  }
}

TEST(Dialects, AddressOfIpv6NasTravelsInItsOwnAttribute) {
  ports::NasRecord nas;
  nas.nas_ip = "2001:db8::1";
  const auto attributes =
      fill(built_in().find("rfc5176")->identify_coa, variables_of(session(), nas), true);
  ASSERT_TRUE(attributes);
  Packet packet;
  packet.attributes = *attributes;
  EXPECT_EQ(packet.find(4), nullptr);
  ASSERT_NE(packet.find(95), nullptr);
  EXPECT_EQ(packet.find(95)->value.size(), 16U);
}

TEST(Fill, ConditionWithoutValueIsAnError) {
  const auto& items = built_in().find("mikrotik")->full;
  const auto filled = fill(items, {{"rate_up", "20M"}}, false);
  ASSERT_FALSE(filled);
  EXPECT_NE(filled.error().find("rate_down"), std::string::npos);
  const auto whole = fill(items, {{"rate_up", "20M"}, {"rate_down", "100M"}}, false);
  ASSERT_TRUE(whole);
  EXPECT_EQ(whole->at(0), (Attribute{14988, 8, "20M/100M"}));
}

TEST(EncodeValue, ChecksNumbersAndAddresses) {
  EXPECT_EQ(encode_value({0, 27, ValueKind::kInteger}, "3600"), std::string("\0\0\x0e\x10", 4));
  EXPECT_FALSE(encode_value({0, 27, ValueKind::kInteger}, "36x"));
  EXPECT_EQ(encode_value({0, 8, ValueKind::kIpv4}, "10.0.0.1"), std::string("\x0a\0\0\x01", 4));
  EXPECT_FALSE(encode_value({0, 8, ValueKind::kIpv4}, "10.0.0.256"));
  EXPECT_FALSE(encode_value({9, 1, ValueKind::kText}, std::string(248, 'x')));
}

void refuses(std::string_view toml, std::string_view field) {
  try {
    parse_dialect(toml, "trial.toml");
    FAIL() << "taken: " << toml;
  } catch (const std::invalid_argument& error) {
    EXPECT_NE(std::string{error.what()}.find(field), std::string::npos) << error.what();
    EXPECT_NE(std::string{error.what()}.find("trial.toml"), std::string::npos);
  }
}

TEST(ParseDialect, NamesTheFieldThatIsWrong) {
  refuses("title = 'x'", "name");
  refuses("name = 'x'\ntitle = 'x'\ntested = 1", "tested");
  refuses("name = 'x'\ntitle = 'x'\nidentify.disconnect = [['No-Such', 'x']]", "No-Such");
  refuses("name = 'x'\ntitle = 'x'\nidentify.disconnect = [['User-Name', '${username}']]",
          "identify.coa");
  refuses(
      "name = 'x'\ntitle = 'x'\naddress_change = 'coa'\ncoa_disconnects = true\n"
      "identify.disconnect = [['User-Name', '${username}']]",
      "coa.renumber");
  refuses("name = ", "trial.toml");
}

TEST(ParseDialect, NamesTheLine) {
  refuses("name = 'x'\ntitle = 'x'\nport = 70000", "trial.toml:3: port");
  refuses("name = 'x'\ntitle = 'x'\n\ncoa_disconects = true", "trial.toml:4: unknown field");
  refuses("name = 'x'\ntitle = 'x'\naddress_change = 'maybe'", "trial.toml:3: address_change");
  refuses("name = 'x'\ntitle = 'x'\n[nak]\n407 = 'what'", "trial.toml:4: nak.407");
  refuses(
      "name = 'x'\ntitle = 'x'\n[identify]\ndisconnect = [\n['User-Name', "
      "'a'],\n['Framed-IP-Address',"
      " '300.1.1.1']]",
      "trial.toml:6: identify.disconnect");
  refuses("name = 'x'\ntitle = 'x'\n[identify]\ndisconnect = [['User-Name', '${username']]",
          "trial.toml:4: identify.disconnect");
  refuses(
      "name = 'x'\ntitle = 'x'\ncoa_disconnects = true\n[identify]\nrequired = ['Class']\n"
      "disconnect = [['User-Name', 'x']]",
      "identify.required");
}

TEST(EncodeValue, WritesPrefixesWithTheOctetsTheyNeed) {
  const AttributeType type{0, 123, ValueKind::kIpv6Prefix};
  EXPECT_EQ(encode_value(type, "2001:db8:1200::/40"),
            std::string("\x00\x28\x20\x01\x0d\xb8\x12", 7));
  EXPECT_EQ(encode_value(type, "2001:db8:ff00::/36"),
            std::string("\x00\x24\x20\x01\x0d\xb8\xf0", 7))
      << "what lies past the length is zero";
  EXPECT_EQ(encode_value(type, "::/0"), std::string("\0\0", 2));
  for (const char* wrong : {"2001:db8::", "2001:db8::/129", "10.0.0.0/8", "2001:db8::/x"}) {
    EXPECT_FALSE(encode_value(type, wrong)) << wrong;
  }
  EXPECT_EQ(encode_value({4874, 65, ValueKind::kTaggedText}, "gold"), "\x01gold");
}

TEST(ParseDialect, TakesAttributesOfItsOwn) {
  const Dialect dialect = parse_dialect(R"(
name = "huawei"
title = "x"
[attributes]
HW-Rate = { vendor = 2011, type = 2, kind = "integer" }
[identify]
coa = [["User-Name", "${username}"]]
disconnect = [["User-Name", "${username}"]]
[coa]
full = [["HW-Rate", "${rate}"]]
restricted = [["HW-Rate", "64000"]]
)",
                                        "x");
  ASSERT_EQ(dialect.full.size(), 1U);
  EXPECT_EQ(dialect.full[0].type.vendor, 2011U);
  EXPECT_EQ(fill(dialect.restricted, {}, false)->at(0).value.size(), 4U);
}

}  // namespace
}  // namespace addrflow::radius
