// The connection to Temporal as this command line uses it.
#pragma once

#include "output.hpp"

#include <expected>
#include <memory>
#include <tempora/client.hpp>

namespace addrflow::cli {

// TEMPORAL_* variables and temporal.toml, as every Temporal tool reads them.
// `metrics`, if there is one, gets what the client and its workers measure.
tempora::Outcome<tempora::Client> connect_temporal(
    std::shared_ptr<tempora::Metrics> metrics = nullptr);

// What a failed call means for whoever waits for an exit code: refused, or unknown.
Exit report(const Output& output, const tempora::ClientError& error);

}  // namespace addrflow::cli
