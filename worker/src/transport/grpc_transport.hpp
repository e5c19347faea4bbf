// The transport on gRPC. Calls wait on gRPC's own threads: none is held by a call.
#pragma once

#include <expected>
#include <memory>
#include <tempora/connection.hpp>
#include <tempora/errors.hpp>

#include "transport.hpp"

namespace tempora {

// Opens lazily: no packet leaves before the first call. Fails for options that cannot be, never for
// the network.
std::expected<std::shared_ptr<Transport>, ClientError> make_grpc_transport(
    const ConnectionOptions& options);

}  // namespace tempora
