// Between the runtime's times and those of the wire.
#pragma once

#include <google/protobuf/duration.pb.h>
#include <google/protobuf/timestamp.pb.h>

#include <cstdint>
#include <tempora/time.hpp>

namespace tempora {

// The wire reaches further than 64 bits of nanoseconds do. What is more than 146 years away, from
// now or from 1970, is taken for 146 years: two such can still be added.
inline Duration within_reach(std::int64_t seconds, std::int32_t nanos) {
  constexpr std::int64_t most = Duration::max().count() / 2 / 1'000'000'000;
  if (seconds >= most) return std::chrono::seconds{most};
  if (seconds <= -most) return std::chrono::seconds{-most};
  return std::chrono::seconds{seconds} + std::chrono::nanoseconds{nanos};
}

inline Duration from_proto(const google::protobuf::Duration& proto) {
  return within_reach(proto.seconds(), proto.nanos());
}

inline TimePoint from_proto(const google::protobuf::Timestamp& proto) {
  return TimePoint{within_reach(proto.seconds(), proto.nanos())};
}

inline void write(Duration duration, google::protobuf::Duration* proto) {
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(duration);
  proto->set_seconds(seconds.count());
  proto->set_nanos(static_cast<std::int32_t>((duration - seconds).count()));
}

inline void write(TimePoint time, google::protobuf::Timestamp* proto) {
  const auto seconds = std::chrono::floor<std::chrono::seconds>(time);
  proto->set_seconds(seconds.time_since_epoch().count());
  proto->set_nanos(static_cast<std::int32_t>((time - seconds).count()));
}

}  // namespace tempora
