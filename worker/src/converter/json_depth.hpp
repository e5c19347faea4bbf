// JSON that others wrote is read by code that calls itself for each level: a limit to the levels
// keeps a few megabytes of "[[[[" from ending the process.
#pragma once

#include <algorithm>
#include <string_view>

namespace tempora {

inline constexpr int kDeepestJson = 500;

// Whether arrays and objects lie within each other deeper than that. Well-formedness is not asked.
inline bool nests_too_deeply(std::string_view text, int limit = kDeepestJson) {
  int depth = 0;
  bool in_string = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') {
        ++i;
      } else if (c == '"') {
        in_string = false;
      }
    } else if (c == '"') {
      in_string = true;
    } else if (c == '[' || c == '{') {
      if (++depth > limit) return true;
    } else if (c == ']' || c == '}') {
      depth = std::max(0, depth - 1);
    }
  }
  return false;
}

}  // namespace tempora
