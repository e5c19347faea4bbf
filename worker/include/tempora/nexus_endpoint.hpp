// Endpoints of Nexus: names by which workflows reach a service, registered for the whole cluster.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <tempora/client.hpp>
#include <vector>

namespace tempora {

// Leads to the workers of a task queue, or to a server elsewhere.
struct NexusEndpointSpec {
  std::string name;         // letters, digits, '_' and '-'; what callers use
  std::string description;  // Markdown for Temporal's UI
  std::string namespace_;   // of the task queue; empty: the client's
  std::string task_queue;
  std::string url;  // instead of the task queue
};

struct NexusEndpointDescription {
  std::string id;
  std::int64_t version = 0;  // counts the changes
  NexusEndpointSpec spec;
  std::optional<TimePoint> created;
  std::optional<TimePoint> changed;
};

// The server's frontends learn of a change within seconds, not at once.
class NexusEndpointClient {
 public:
  // `kAlreadyExists` if the name is taken.
  Outcome<NexusEndpointDescription> create(const NexusEndpointSpec& spec) const;
  Outcome<NexusEndpointDescription> describe(std::string_view id) const;
  // By its name; nothing if there is none.
  Outcome<std::optional<NexusEndpointDescription>> find(std::string_view name) const;
  Outcome<std::vector<NexusEndpointDescription>> list() const;
  // `version` as last seen: what somebody else has changed meanwhile is not overwritten.
  Outcome<NexusEndpointDescription> update(std::string_view id, std::int64_t version,
                                           const NexusEndpointSpec& spec) const;
  Outcome<void> remove(std::string_view id, std::int64_t version) const;

 private:
  friend class Client;
  std::shared_ptr<const detail::ClientCore> core_;
};

}  // namespace tempora
