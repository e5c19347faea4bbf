#include <gtest/gtest.h>
#include <addrflow/domain/ipv4.hpp>

namespace addrflow::domain {
namespace {

TEST(Ipv4, AddressesGoThereAndBack) {
  for (const char* text : {"0.0.0.0", "10.0.0.1", "203.0.113.7", "255.255.255.255"}) {
    const auto address = parse_ipv4(text);
    ASSERT_TRUE(address) << text;
    EXPECT_EQ(to_string(*address), text);
  }
}

TEST(Ipv4, OnlyDottedQuadsAreAddresses) {
  for (const char* text : {"", "1", "1.2.3", "1.2.3.4.5", "1.2.3.256", "01.2.3.4", "1.2.3.4 ",
                           " 1.2.3.4", "1..2.3", "-1.2.3.4", "1.2.3.4/32", "a.b.c.d", "+1.2.3.4"}) {
    EXPECT_FALSE(parse_ipv4(text)) << text;
  }
}

TEST(Ipv4, PrefixesKnowTheirAddresses) {
  const auto prefix = parse_ipv4_prefix("192.0.2.0/24");
  ASSERT_TRUE(prefix);
  EXPECT_EQ(prefix->size(), 256U);
  EXPECT_TRUE(prefix->contains(*parse_ipv4("192.0.2.255")));
  EXPECT_FALSE(prefix->contains(*parse_ipv4("192.0.3.0")));
  EXPECT_EQ(to_string(*prefix), "192.0.2.0/24");
  EXPECT_TRUE(parse_ipv4_prefix("0.0.0.0/0")->contains(*parse_ipv4("8.8.8.8")));
  EXPECT_TRUE(parse_ipv4_prefix("10.0.0.1/32")->contains(*parse_ipv4("10.0.0.1")));
}

TEST(Ipv4, APrefixHasNoHostBits) {
  for (const char* text :
       {"192.0.2.1/24", "192.0.2.0", "192.0.2.0/", "192.0.2.0/33", "192.0.2.0/024"}) {
    EXPECT_FALSE(parse_ipv4_prefix(text)) << text;
  }
}

}  // namespace
}  // namespace addrflow::domain
