// The version of a worker, and what happens to a workflow when a newer one comes.
#pragma once

#include <string>

namespace tempora {

struct DeploymentVersion {
  std::string deployment;
  std::string build_id;
  bool operator==(const DeploymentVersion&) const = default;
};

enum class VersioningBehavior {
  kUnspecified,
  kPinned,       // a run ends on the version on which it began
  kAutoUpgrade,  // a run goes on with the current version, which must replay it
};

// A worker of a certain build. It gets workflows when a deployment's routing says so
// (`DeploymentClient::set_current`), not before.
struct WorkerVersioning {
  DeploymentVersion version;
  // Of workflow types whose definition has no `versioning` of its own; kUnspecified: all have.
  VersioningBehavior behavior = VersioningBehavior::kPinned;
};

// For one run, whatever its workers say. What a pinned run starts or continues as is pinned, too.
struct VersioningOverride {
  VersioningBehavior behavior = VersioningBehavior::kPinned;
  DeploymentVersion version{};  // to which it is pinned; empty with kAutoUpgrade
};

}  // namespace tempora
