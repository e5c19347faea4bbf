#include <addrflow/domain/ipv4.hpp>
#include <charconv>

namespace addrflow::domain {
namespace {

// A decimal number without sign or leading zeros; consumes it from `text`.
std::optional<unsigned> take_number(std::string_view& text, unsigned largest) {
  unsigned value = 0;
  const char* begin = text.data();
  const auto [end, error] = std::from_chars(begin, begin + text.size(), value);
  if (error != std::errc{} || value > largest) return std::nullopt;
  if (*begin == '0' && end - begin > 1) return std::nullopt;
  text.remove_prefix(static_cast<std::size_t>(end - begin));
  return value;
}

std::uint32_t mask(int length) { return length == 0 ? 0 : ~std::uint32_t{0} << (32 - length); }

}  // namespace

bool Ipv4Prefix::contains(Ipv4Address address) const {
  return (address.value & mask(length)) == network.value;
}

std::optional<Ipv4Address> parse_ipv4(std::string_view text) {
  std::uint32_t value = 0;
  for (int octet = 0; octet < 4; ++octet) {
    if (octet > 0) {
      if (!text.starts_with('.')) return std::nullopt;
      text.remove_prefix(1);
    }
    if (text.empty()) return std::nullopt;
    const auto number = take_number(text, 255);
    if (!number) return std::nullopt;
    value = (value << 8) | *number;
  }
  if (!text.empty()) return std::nullopt;
  return Ipv4Address{value};
}

std::optional<Ipv4Prefix> parse_ipv4_prefix(std::string_view text) {
  const std::size_t slash = text.find('/');
  if (slash == std::string_view::npos) return std::nullopt;
  const auto network = parse_ipv4(text.substr(0, slash));
  text.remove_prefix(slash + 1);
  if (!network || text.empty()) return std::nullopt;
  const auto length = take_number(text, 32);
  if (!length || !text.empty()) return std::nullopt;
  const int bits = static_cast<int>(*length);
  if ((network->value & ~mask(bits)) != 0) return std::nullopt;
  return Ipv4Prefix{*network, bits};
}

std::string to_string(Ipv4Address address) {
  std::string text;
  for (int shift = 24; shift >= 0; shift -= 8) {
    if (shift < 24) text += '.';
    text += std::to_string((address.value >> shift) & 255);
  }
  return text;
}

std::string to_string(const Ipv4Prefix& prefix) {
  return to_string(prefix.network) + "/" + std::to_string(prefix.length);
}

}  // namespace addrflow::domain
