// Worker deployments: which build of the workers gets which workflows.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <tempora/client.hpp>
#include <tempora/versioning.hpp>
#include <vector>

namespace tempora {

enum class VersionStatus { kUnknown, kInactive, kCurrent, kRamping, kDraining, kDrained, kCreated };

struct DeploymentVersionInfo {
  DeploymentVersion version;
  VersionStatus status = VersionStatus::kUnknown;
};

struct DeploymentDescription {
  std::string name;
  std::string current_build_id;  // empty: workers without a version get what is new
  std::string ramping_build_id;
  float ramping_percentage = 0;
  std::vector<DeploymentVersionInfo> versions;
  bool settled = true;         // the routing has reached all task queues
  std::string conflict_token;  // for a change that nobody may have overtaken
};

struct RoutingOptions {
  std::string conflict_token;  // from `describe`; empty: whatever it is now
  // The server refuses a build that polls fewer queues than the present one, unless this says so.
  bool ignore_missing_task_queues = false;
  bool allow_no_pollers = false;
};

class DeploymentClient {
 public:
  // A deployment is made by the first poll of a worker with a version: until then `kNotFound`.
  Outcome<DeploymentDescription> describe(std::string_view deployment) const;
  Outcome<std::vector<std::string>> list() const;
  Outcome<DeploymentVersionInfo> describe_version(const DeploymentVersion& version) const;
  // New workflows and auto-upgrading ones go to `build_id`; empty: to workers without a version.
  Outcome<void> set_current(std::string_view deployment, std::string_view build_id,
                            const RoutingOptions& options = {}) const;
  // That share of them goes to `build_id`; empty ends the ramp.
  Outcome<void> set_ramping(std::string_view deployment, std::string_view build_id,
                            float percentage, const RoutingOptions& options = {}) const;
  // Refused while it has pollers, or workflows pinned to it unless `skip_drainage`.
  Outcome<void> remove_version(const DeploymentVersion& version, bool skip_drainage = false) const;
  Outcome<void> remove(std::string_view deployment) const;

 private:
  friend class Client;
  std::shared_ptr<const detail::ClientCore> core_;
};

}  // namespace tempora
