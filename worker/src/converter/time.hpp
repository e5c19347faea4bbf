// Between the runtime's times and those of the wire.
#pragma once

#include <google/protobuf/duration.pb.h>
#include <google/protobuf/timestamp.pb.h>

#include <tempora/time.hpp>

namespace tempora {

inline Duration from_proto(const google::protobuf::Duration& proto) {
  return std::chrono::seconds{proto.seconds()} + std::chrono::nanoseconds{proto.nanos()};
}

inline TimePoint from_proto(const google::protobuf::Timestamp& proto) {
  return TimePoint{std::chrono::seconds{proto.seconds()} + std::chrono::nanoseconds{proto.nanos()}};
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
