// What goes over the wire beside the API's messages.
#pragma once

#include <temporal/api/nexus/v1/message.pb.h>
#include <temporal/api/workflowservice/v1/request_response.pb.h>

#include <optional>
#include <string_view>
#include <tempora/failure.hpp>
#include <tempora/time.hpp>

namespace tempora::nexus {

// For servers that take no failures of Temporal from a handler: one of Nexus that holds it.
temporal::api::nexus::v1::Failure wrap(FailureProto failure);

// How the operation ended, or why the request was refused; `as_it_is`: the server takes failures of
// Temporal.
void write_failure(FailureProto failure, bool as_it_is,
                   temporal::api::nexus::v1::StartOperationResponse& response);
void write_failure(FailureProto failure, bool as_it_is,
                   temporal::api::workflowservice::v1::RespondNexusTaskFailedRequest& request);

// "9.99s", "1m30s", "-5ms" …: how long the server still waits, none below zero. Nothing if it is no
// duration.
std::optional<Duration> read_timeout(std::string_view text);

}  // namespace tempora::nexus
