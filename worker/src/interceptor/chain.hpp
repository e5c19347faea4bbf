// Runs a call through a chain of interceptors, the first outermost, `last` at the end.
#pragma once

#include <temporal/api/common/v1/message.pb.h>

#include <cstddef>
#include <tempora/activity.hpp>
#include <tempora/interceptor.hpp>

namespace tempora::detail {

std::expected<void, ClientError> through(
    const std::vector<std::shared_ptr<ClientInterceptor>>& chain, std::size_t first,
    ClientCall& call, const ClientInterceptor::Next& last);
Payloads through(const std::vector<std::shared_ptr<ActivityInterceptor>>& chain, std::size_t first,
                 ActivityContext& context, const ActivityCall& call,
                 const ActivityInterceptor::Next& last);
// The activity's function inside the interceptors.
Payloads run_activity(const std::vector<std::shared_ptr<ActivityInterceptor>>& chain,
                      const ActivityFunction& function, ActivityContext& context,
                      const Payloads& input);
void nexus_through(const std::vector<std::shared_ptr<NexusInterceptor>>& chain, std::size_t first,
                   NexusContext& context, const NexusInterceptor::Next& last);
// `chain` and `context` must outlive the task.
Task<Payload> through(const std::vector<std::unique_ptr<WorkflowInterceptor>>& chain,
                      std::size_t first, Context& context, InboundCall call,
                      WorkflowInterceptor::Next last);
Payload query_through(const std::vector<std::unique_ptr<WorkflowInterceptor>>& chain,
                      std::size_t first, Context& context, InboundCall call,
                      const WorkflowInterceptor::NextQuery& last);
void validate_through(const std::vector<std::unique_ptr<WorkflowInterceptor>>& chain,
                      std::size_t first, Context& context, InboundCall call,
                      const WorkflowInterceptor::NextValidate& last);

Headers read_headers(const temporal::api::common::v1::Header& header);
void write_headers(const Headers& headers, temporal::api::common::v1::Header* header);

}  // namespace tempora::detail
