// A moment as text for people and messages: RFC 3339, UTC, milliseconds.
#pragma once

#include <chrono>
#include <string>
#include <string_view>
#include <tempora/time.hpp>

namespace addrflow::workflows {

inline std::string clock_text(tempora::TimePoint at) {
  using std::chrono::floor;
  const auto day = floor<std::chrono::days>(at);
  const std::chrono::year_month_day date{day};
  const std::chrono::hh_mm_ss time{floor<std::chrono::milliseconds>(at - day)};
  const auto digits = [](std::int64_t value, std::size_t width, std::string_view after) {
    std::string text = std::to_string(value);
    if (text.size() < width) text.insert(0, width - text.size(), '0');
    return text.append(after);
  };
  return digits(static_cast<int>(date.year()), 4, "-") +
         digits(static_cast<unsigned>(date.month()), 2, "-") +
         digits(static_cast<unsigned>(date.day()), 2, "T") + digits(time.hours().count(), 2, ":") +
         digits(time.minutes().count(), 2, ":") + digits(time.seconds().count(), 2, ".") +
         digits(time.subseconds().count(), 3, "Z");
}

}  // namespace addrflow::workflows
