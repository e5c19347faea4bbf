// What the parts of the client share: paths, and reading NetBox's JSON with care.
#pragma once

#include <fmt/format.h>
#include <addrflow/netbox/error.hpp>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace addrflow::netbox {

inline constexpr const char* kAddresses = "/api/ipam/ip-addresses/";
inline constexpr const char* kPrefixes = "/api/ipam/prefixes/";
inline constexpr const char* kRanges = "/api/ipam/ip-ranges/";
inline constexpr const char* kTagSlug = "addrflow";

// Percent-escaped for a query.
std::string escaped(std::string_view text);

inline std::string text_or_empty(const nlohmann::json& object, const char* name) {
  const auto found = object.find(name);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string{};
}

inline Error unexpected_shape(std::string_view what) {
  return {.kind = ErrorKind::kNotNetbox,
          .message = fmt::format("NetBox's answer has no usable {}", what),
          .retryable = true};
}

}  // namespace addrflow::netbox
