#include "table.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>

namespace addrflow::cli {

std::string Table::text(bool bold) const {
  std::vector<std::size_t> widths(header.size(), 0);
  for (const auto& row : rows) {
    for (std::size_t i = 0; i < row.size() && i < widths.size(); ++i) {
      widths[i] = std::max(widths[i], row[i].size());
    }
  }
  const auto line = [&](const std::vector<std::string>& cells) {
    std::string text;
    for (std::size_t i = 0; i < widths.size(); ++i) {
      if (widths[i] == 0) {
        continue;
      }
      const std::string& cell = i < cells.size() ? cells[i] : std::string{};
      text += fmt::format("{:<{}}  ", cell, std::max(widths[i], header[i].size()));
    }
    text.erase(text.find_last_not_of(' ') + 1);
    return text;
  };
  std::string text = bold ? fmt::format("\033[1m{}\033[0m\n", line(header)) : line(header) + "\n";
  for (const auto& row : rows) {
    text += line(row) + "\n";
  }
  return text;
}

bool wants_bold() {
  const char* no_color = std::getenv("NO_COLOR");
  return ::isatty(STDOUT_FILENO) == 1 && (no_color == nullptr || *no_color == '\0');
}

std::string age_text(long long seconds) {
  constexpr long long kMinute = 60;
  constexpr long long kHour = 60 * kMinute;
  constexpr long long kDay = 24 * kHour;
  if (seconds >= 2 * kDay) {
    return fmt::format("{} d", seconds / kDay);
  }
  if (seconds >= 2 * kHour) {
    return fmt::format("{} h", seconds / kHour);
  }
  if (seconds >= 2 * kMinute) {
    return fmt::format("{} min", seconds / kMinute);
  }
  return fmt::format("{} s", seconds);
}

}  // namespace addrflow::cli
