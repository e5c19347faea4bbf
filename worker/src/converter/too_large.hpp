// What is said of something above a limit of the server. Every SDK gives it the number TMPRL1103.
#pragma once

#include <fmt/format.h>

#include <cstddef>
#include <string>
#include <string_view>

#include <tempora/failure.hpp>

namespace tempora {

inline std::string too_large(std::string_view what, std::size_t bytes, std::size_t limit) {
  return fmt::format("[TMPRL1103] {} is {} bytes, the limit is {}", what, bytes, limit);
}

// On record, where failing the task would do so again and again.
inline ApplicationError payloads_too_large(std::string_view what, std::size_t bytes,
                                           std::size_t limit) {
  return ApplicationError{too_large(what, bytes, limit), "PayloadsTooLarge",
                          /*non_retryable=*/true};
}

}  // namespace tempora
