#include <arpa/inet.h>
#include <addrflow/domain/ipv6.hpp>
#include <charconv>

namespace addrflow::domain {
namespace {

constexpr std::size_t kLongestText = 45;  // "ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255"

// The octet with everything behind `length` bits cleared.
std::uint8_t masked(std::uint8_t octet, std::size_t index, int length) {
  const int bits = length - static_cast<int>(index) * 8;
  if (bits >= 8) return octet;
  if (bits <= 0) return 0;
  return static_cast<std::uint8_t>(octet & (0xff << (8 - bits)));
}

Ipv6Address network_of(const Ipv6Address& address, int length) {
  Ipv6Address network;
  for (std::size_t i = 0; i < network.bytes.size(); ++i)
    network.bytes[i] = masked(address.bytes[i], i, length);
  return network;
}

std::optional<int> parse_length(std::string_view text) {
  int length = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), length);
  const bool whole = error == std::errc{} && end == text.data() + text.size();
  const bool plain = !text.empty() && text.front() != '-' && (text.size() == 1 || text[0] != '0');
  if (!whole || !plain || length > 128) return std::nullopt;
  return length;
}

std::unexpected<FieldError> refuse(std::string_view field, std::string_view why) {
  const std::string name{field};
  return std::unexpected(FieldError{name, name + " " + std::string{why}});
}

}  // namespace

bool Ipv6Prefix::contains(const Ipv6Address& address) const {
  return network_of(address, length) == network;
}

bool Ipv6Prefix::contains(const Ipv6Prefix& other) const {
  return other.length >= length && contains(other.network);
}

std::optional<Ipv6Address> parse_ipv6(std::string_view text) {
  if (text.empty() || text.size() > kLongestText) return std::nullopt;
  Ipv6Address address;
  const std::string terminated{text};
  if (inet_pton(AF_INET6, terminated.c_str(), address.bytes.data()) != 1) return std::nullopt;
  return address;
}

std::optional<Ipv6Prefix> parse_ipv6_prefix(std::string_view text) {
  const std::size_t slash = text.find('/');
  if (slash == std::string_view::npos) return std::nullopt;
  const auto network = parse_ipv6(text.substr(0, slash));
  const auto length = parse_length(text.substr(slash + 1));
  if (!network || !length || network_of(*network, *length) != *network) return std::nullopt;
  return Ipv6Prefix{*network, *length};
}

std::string to_string(const Ipv6Address& address) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  return inet_ntop(AF_INET6, address.bytes.data(), text.data(), text.size());
}

std::string to_string(const Ipv6Prefix& prefix) {
  return to_string(prefix.network) + "/" + std::to_string(prefix.length);
}

std::expected<void, FieldError> check_pd_size(std::string_view field, std::int64_t size) {
  if (size == 0 || (size >= kShortestDelegation && size <= kLongestDelegation)) return {};
  return refuse(field, "must be between 48 and 64");
}

std::expected<std::string, FieldError> check_delegated_prefix(std::string_view field,
                                                              std::string_view text) {
  const auto prefix = parse_ipv6_prefix(text);
  if (!prefix) return refuse(field, "must be an IPv6 prefix without host bits: 2001:db8::/56");
  if (prefix->length < kShortestDelegation || prefix->length > kLongestDelegation)
    return refuse(field, "must be between /48 and /64");
  return to_string(*prefix);
}

}  // namespace addrflow::domain
