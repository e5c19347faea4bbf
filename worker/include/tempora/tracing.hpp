// W3C trace context (traceparent, tracestate) from a client through workflows to activities, child
// workflows, signals and continued runs. The runtime makes no spans of its own: it hands the
// context on, as it came, in the header that the tracing interceptors of the official SDKs use.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <tempora/interceptor.hpp>

namespace tempora {

struct TraceContext {
  std::string traceparent;  // "00-<32 hex>-<16 hex>-<2 hex>"
  std::string tracestate;
  bool operator==(const TraceContext&) const = default;
};

inline constexpr const char* kTraceHeader = "_tracer-data";

// By the W3C's rules for version 00 and later; all-zero ids are refused.
bool is_traceparent(std::string_view text);

// Nothing if there is none or it is not well formed: a broken trace never breaks work.
std::optional<TraceContext> trace_of(const Headers& headers);
void write_trace(const TraceContext& trace, Headers& headers);

// The trace of the activity that runs on this thread.
std::optional<TraceContext> current_trace();

// Where a client's calls get their trace from; nothing: they carry none. Without a source:
// `current_trace`, so that what an activity starts belongs to its trace.
using TraceSource = std::function<std::optional<TraceContext>()>;
std::shared_ptr<ClientInterceptor> trace_client(TraceSource source = {});
// For `WorkerOptions::interceptors`.
WorkerInterceptors trace_worker();

}  // namespace tempora
