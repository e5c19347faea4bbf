// What a worker with a version tells the server in its polls and answers.
#pragma once

#include <temporal/api/deployment/v1/message.pb.h>

#include <optional>
#include <tempora/versioning.hpp>

namespace tempora::pollers {

template <class Request>
void write_version(const std::optional<WorkerVersioning>& versioning, Request& request) {
  if (!versioning) return;
  auto* options = request.mutable_deployment_options();
  options->set_deployment_name(versioning->version.deployment);
  options->set_build_id(versioning->version.build_id);
  options->set_worker_versioning_mode(temporal::api::enums::v1::WORKER_VERSIONING_MODE_VERSIONED);
}

}  // namespace tempora::pollers
