// What the end of an update or a workflow means to the composition that asked. Pure functions.
#pragma once

#include <addrflow/v1/activities.pb.h>

#include <optional>
#include <tempora/errors.hpp>

namespace addrflow::compose {

// The result that a failed update stands for; empty if it says nothing about the request and should
// be sent again.
std::optional<v1::LifecycleResult> refusal_in(const tempora::ClientError& error,
                                              const std::string& operation);

// How a workflow ended, from the error of waiting for it; empty if it has not ended or nobody
// knows.
std::optional<v1::ComposeWaitReply> end_in(const tempora::ClientError& error);

}  // namespace addrflow::compose
