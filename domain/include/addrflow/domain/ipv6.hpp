// IPv6 addresses and delegated prefixes as values.
#pragma once

#include <addrflow/domain/errors.hpp>
#include <array>
#include <cstdint>
#include <expected>
#include <optional>
#include <string>
#include <string_view>

namespace addrflow::domain {

struct Ipv6Address {
  std::array<std::uint8_t, 16> bytes{};  // network order
  auto operator<=>(const Ipv6Address&) const = default;
};

struct Ipv6Prefix {
  Ipv6Address network;
  int length = 128;

  bool contains(const Ipv6Address& address) const;
  bool contains(const Ipv6Prefix& other) const;
  bool operator==(const Ipv6Prefix&) const = default;
};

// RFC 4291 section 2.2, in any of its forms; no zone, no spaces.
std::optional<Ipv6Address> parse_ipv6(std::string_view text);
// "2001:db8:1200::/56"; the bits behind the length must be zero.
std::optional<Ipv6Prefix> parse_ipv6_prefix(std::string_view text);
// As RFC 5952 writes it, and as PostgreSQL and NetBox do.
std::string to_string(const Ipv6Address& address);
std::string to_string(const Ipv6Prefix& prefix);

// What is delegated to a line (RFC 3633): /48 to /64.
inline constexpr int kShortestDelegation = 48;
inline constexpr int kLongestDelegation = 64;
inline constexpr int kDefaultDelegation = 56;

// 0 means the pool's own size.
std::expected<void, FieldError> check_pd_size(std::string_view field, std::int64_t size);
// The prefix in its one written form. Refused: no prefix, host bits, not /48 to /64.
std::expected<std::string, FieldError> check_delegated_prefix(std::string_view field,
                                                              std::string_view text);

}  // namespace addrflow::domain
