#include <tempora/interceptor.hpp>

#include "interceptor/chain.hpp"

namespace tempora {

std::expected<void, ClientError> ClientInterceptor::call(ClientCall&, const Next& next) {
  return next();
}

Payloads ActivityInterceptor::execute(ActivityContext& context, ActivityCall call,
                                      const Next& next) {
  return next(context, call);
}

void NexusInterceptor::handle(NexusContext& context, const Next& next) { next(context); }

Task<Payload> WorkflowInterceptor::inbound(Context&, InboundCall call, Next next) {
  return next(std::move(call));
}

Payload WorkflowInterceptor::query(Context&, InboundCall call, const NextQuery& next) {
  return next(std::move(call));
}

void WorkflowInterceptor::validate(Context&, InboundCall call, const NextValidate& next) {
  next(std::move(call));
}

void WorkflowInterceptor::outbound(Context&, OutboundCall&) {}

namespace detail {

std::expected<void, ClientError> through(
    const std::vector<std::shared_ptr<ClientInterceptor>>& chain, std::size_t first,
    ClientCall& call, const ClientInterceptor::Next& last) {
  if (first == chain.size()) return last();
  return chain[first]->call(call, [&] { return through(chain, first + 1, call, last); });
}

Payloads through(const std::vector<std::shared_ptr<ActivityInterceptor>>& chain, std::size_t first,
                 ActivityContext& context, const ActivityCall& call,
                 const ActivityInterceptor::Next& last) {
  if (first == chain.size()) return last(context, call);
  return chain[first]->execute(context, call,
                               [&](ActivityContext& its_context, const ActivityCall& its_call) {
                                 return through(chain, first + 1, its_context, its_call, last);
                               });
}

Payloads run_activity(const std::vector<std::shared_ptr<ActivityInterceptor>>& chain,
                      const ActivityFunction& function, ActivityContext& context,
                      const Payloads& input) {
  if (chain.empty()) return function(context, input);
  return through(chain, 0, context, {context.info().headers, input},
                 [&](ActivityContext& its_context, const ActivityCall& call) {
                   return function(its_context, call.input);
                 });
}

void nexus_through(const std::vector<std::shared_ptr<NexusInterceptor>>& chain, std::size_t first,
                   NexusContext& context, const NexusInterceptor::Next& last) {
  if (first == chain.size()) return last(context);
  chain[first]->handle(context,
                       [&](NexusContext& its) { nexus_through(chain, first + 1, its, last); });
}

Task<Payload> through(const std::vector<std::unique_ptr<WorkflowInterceptor>>& chain,
                      std::size_t first, Context& context, InboundCall call,
                      WorkflowInterceptor::Next last) {
  if (first == chain.size()) return last(std::move(call));
  WorkflowInterceptor::Next next = [&chain, first, &context,
                                    last = std::move(last)](InboundCall its_call) {
    return through(chain, first + 1, context, std::move(its_call), last);
  };
  return chain[first]->inbound(context, std::move(call), std::move(next));
}

Payload query_through(const std::vector<std::unique_ptr<WorkflowInterceptor>>& chain,
                      std::size_t first, Context& context, InboundCall call,
                      const WorkflowInterceptor::NextQuery& last) {
  if (first == chain.size()) return last(std::move(call));
  return chain[first]->query(context, std::move(call), [&](InboundCall its_call) {
    return query_through(chain, first + 1, context, std::move(its_call), last);
  });
}

void validate_through(const std::vector<std::unique_ptr<WorkflowInterceptor>>& chain,
                      std::size_t first, Context& context, InboundCall call,
                      const WorkflowInterceptor::NextValidate& last) {
  if (first == chain.size()) return last(std::move(call));
  chain[first]->validate(context, std::move(call), [&](InboundCall its_call) {
    validate_through(chain, first + 1, context, std::move(its_call), last);
  });
}

Headers read_headers(const temporal::api::common::v1::Header& header) {
  return {header.fields().begin(), header.fields().end()};
}

void write_headers(const Headers& headers, temporal::api::common::v1::Header* header) {
  for (const auto& [name, payload] : headers) (*header->mutable_fields())[name] = payload;
}

}  // namespace detail

}  // namespace tempora
