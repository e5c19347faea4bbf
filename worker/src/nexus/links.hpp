// Links between the histories of caller and handler: in the API's form, and as URLs.
#pragma once

#include <temporal/api/common/v1/message.pb.h>
#include <temporal/api/nexus/v1/message.pb.h>

#include <optional>

namespace tempora::nexus {

using temporal::api::common::v1::Link;

// Nothing for a link that is not to an event of a workflow.
std::optional<Link> from_url(const temporal::api::nexus::v1::Link& link);
temporal::api::nexus::v1::Link to_url(const Link::WorkflowEvent& event);

}  // namespace tempora::nexus
