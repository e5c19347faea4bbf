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
  kUnspecified,  // the worker's default
  kPinned,       // a run ends on the version on which it began
  kAutoUpgrade,  // a run goes on with the current version, which must replay it
};

}  // namespace tempora
