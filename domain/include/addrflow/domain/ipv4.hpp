// IPv4 addresses and prefixes as values.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace addrflow::domain {

struct Ipv4Address {
  std::uint32_t value = 0;  // host order
  auto operator<=>(const Ipv4Address&) const = default;
};

struct Ipv4Prefix {
  Ipv4Address network;
  int length = 32;

  bool contains(Ipv4Address address) const;
  std::uint64_t size() const { return std::uint64_t{1} << (32 - length); }
  bool operator==(const Ipv4Prefix&) const = default;
};

// Dotted quad, decimal, no leading zeros; nothing else (no "10.1", no spaces).
std::optional<Ipv4Address> parse_ipv4(std::string_view text);
// "192.0.2.0/24"; host bits must be zero.
std::optional<Ipv4Prefix> parse_ipv4_prefix(std::string_view text);
std::string to_string(Ipv4Address address);
std::string to_string(const Ipv4Prefix& prefix);

}  // namespace addrflow::domain
