// The event that the server writes for a command: for the in-process service and for the tests of
// the engine, which play the server by hand.
#pragma once

#include <temporal/api/command/v1/message.pb.h>
#include <temporal/api/history/v1/message.pb.h>
#include <temporal/api/protocol/v1/message.pb.h>

#include <optional>

namespace tempora::testing {

using Messages = google::protobuf::RepeatedPtrField<temporal::api::protocol::v1::Message>;

// Type and attributes; id and time are the caller's. Nothing: no event belongs to it, or it names a
// message that is not among `messages`.
std::optional<temporal::api::history::v1::HistoryEvent> event_for(
    const temporal::api::command::v1::Command& command, const Messages& messages);

}  // namespace tempora::testing
