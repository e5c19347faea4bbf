// Text of others: what() of an exception may hold a path, a message cut in two, any bytes at all.
// The server refuses a whole request for one string that is not UTF-8.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace tempora {

// As it is, with U+FFFD for what is not UTF-8.
inline std::string valid_utf8(const std::string& text) {
  using nlohmann::json;
  const std::string repaired = json(text).dump(-1, ' ', false, json::error_handler_t::replace);
  return json::parse(repaired).get<std::string>();
}

}  // namespace tempora
