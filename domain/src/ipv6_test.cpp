#include <gtest/gtest.h>
#include <addrflow/domain/ipv6.hpp>

namespace addrflow::domain {
namespace {

TEST(Ipv6, OneAddressHasOneWrittenForm) {
  for (const char* text : {"2001:DB8:0:0:0:0:0:1", "2001:db8::1", "2001:0db8::0001"}) {
    const auto address = parse_ipv6(text);
    ASSERT_TRUE(address) << text;
    EXPECT_EQ(to_string(*address), "2001:db8::1");
  }
}

TEST(Ipv6, RefusesWhatIsNoAddress) {
  for (const char* text : {"", "2001:db8", "2001:db8::1%eth0", " ::1", "203.0.113.7", "::1/128",
                           "2001:db8:::1", "1:2:3:4:5:6:7:8:9"})
    EXPECT_FALSE(parse_ipv6(text)) << text;
}

TEST(Ipv6, RefusesAPrefixWithHostBitsOrAnOddLength) {
  EXPECT_TRUE(parse_ipv6_prefix("2001:db8:12:3400::/56"));
  for (const char* text : {"2001:db8:12:34ff::/56", "2001:db8::", "2001:db8::/", "2001:db8::/129",
                           "2001:db8::/-1", "2001:db8::/056", "2001:db8::/+5", "203.0.113.0/24"})
    EXPECT_FALSE(parse_ipv6_prefix(text)) << text;
}

TEST(Ipv6, APrefixContainsWhatSharesItsBits) {
  const auto pool = parse_ipv6_prefix("2001:db8::/33").value();
  EXPECT_TRUE(pool.contains(parse_ipv6_prefix("2001:db8:7f00::/56").value()));
  EXPECT_FALSE(pool.contains(parse_ipv6_prefix("2001:db8:8000::/56").value()));
  EXPECT_FALSE(pool.contains(parse_ipv6_prefix("2001:db8::/32").value()));
  EXPECT_TRUE(pool.contains(parse_ipv6("2001:db8:7fff:ffff:ffff:ffff:ffff:ffff").value()));
}

TEST(Ipv6, DelegationsAreBetween48And64AndTheErrorNamesTheField) {
  EXPECT_TRUE(check_pd_size("ipv6_pd_size", 0));
  EXPECT_TRUE(check_pd_size("ipv6_pd_size", 48));
  EXPECT_TRUE(check_pd_size("ipv6_pd_size", 64));
  for (const int size : {1, 47, 65, 128, -56}) {
    const auto checked = check_pd_size("ipv6_pd_size", size);
    ASSERT_FALSE(checked) << size;
    EXPECT_EQ(checked.error().message, "ipv6_pd_size must be between 48 and 64");
  }
  EXPECT_EQ(check_delegated_prefix("requested_prefix", "2001:DB8:0::/48").value(), "2001:db8::/48");
  EXPECT_FALSE(check_delegated_prefix("requested_prefix", "2001:db8::/40"));
  EXPECT_EQ(check_delegated_prefix("requested_prefix", "2001:db8::1/56").error().field,
            "requested_prefix");
}

}  // namespace
}  // namespace addrflow::domain
