// The two time types of the runtime: nanoseconds everywhere, as on the wire.
#pragma once

#include <chrono>

namespace tempora {

using Duration = std::chrono::nanoseconds;
using TimePoint = std::chrono::time_point<std::chrono::system_clock, std::chrono::nanoseconds>;

}  // namespace tempora
