#include <algorithm>
#include <tempora/nexus_handler.hpp>
#include <tempora/tracing.hpp>

namespace tempora {

namespace {

constexpr std::size_t kVersion = 2, kTraceId = 32, kParentId = 16, kFlags = 2;
constexpr std::size_t kTraceparent = kVersion + kTraceId + kParentId + kFlags + 3;
constexpr std::size_t kLongestState = 512;  // what the W3C asks to hand on at least

thread_local std::optional<TraceContext> t_current;

bool is_hex(std::string_view text) {
  return std::ranges::all_of(
      text, [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}
bool is_zero(std::string_view text) {
  return std::ranges::all_of(text, [](char c) { return c == '0'; });
}

class TraceClient final : public ClientInterceptor {
 public:
  explicit TraceClient(TraceSource source) : source_(std::move(source)) {}
  std::expected<void, ClientError> call(ClientCall& call, const Next& next) override {
    if (const auto trace = source_ ? source_() : current_trace()) write_trace(*trace, call.headers);
    return next();
  }

 private:
  const TraceSource source_;
};

// While it lives, the thread's trace is this one.
class Current {
 public:
  explicit Current(std::optional<TraceContext> trace)
      : before_(std::exchange(t_current, std::move(trace))) {}
  ~Current() { t_current = std::move(before_); }
  Current(const Current&) = delete;
  Current& operator=(const Current&) = delete;

 private:
  std::optional<TraceContext> before_;
};

class TraceActivities final : public ActivityInterceptor {
 public:
  Payloads execute(ActivityContext& context, ActivityCall call, const Next& next) override {
    const Current current{trace_of(call.headers)};
    return next(context, call);
  }
};

// In Nexus the two fields are headers of their own, as the W3C has them.
class TraceNexus final : public NexusInterceptor {
 public:
  void handle(NexusContext& context, const Next& next) override {
    const auto& headers = context.info().headers;
    std::optional<TraceContext> trace;
    const auto parent = headers.find("traceparent");
    if (parent != headers.end() && is_traceparent(parent->second)) {
      const auto state = headers.find("tracestate");
      trace = TraceContext{parent->second, state == headers.end() ? std::string{} : state->second};
    }
    const Current current{std::move(trace)};
    next(context);
  }
};

void write_nexus_trace(const TraceContext& trace, Headers& headers) {
  headers.insert_or_assign("traceparent", PayloadCodec<std::string>::encode(trace.traceparent));
  if (!trace.tracestate.empty() && trace.tracestate.size() <= kLongestState)
    headers.insert_or_assign("tracestate", PayloadCodec<std::string>::encode(trace.tracestate));
}

// A run belongs to the trace of its start, whoever signals it later.
class TraceWorkflow final : public WorkflowInterceptor {
 public:
  Task<Payload> inbound(Context&, InboundCall call, Next next) override {
    if (call.kind == InboundCall::Kind::kRun) trace_ = trace_of(call.headers);
    return next(std::move(call));
  }
  void outbound(Context&, OutboundCall& call) override {
    if (!trace_) return;
    if (call.kind == OutboundCall::Kind::kNexus) {
      write_nexus_trace(*trace_, call.headers);
    } else {
      write_trace(*trace_, call.headers);
    }
  }

 private:
  std::optional<TraceContext> trace_;
};

}  // namespace

bool is_traceparent(std::string_view text) {
  if (text.size() < kTraceparent) return false;
  const std::string_view version = text.substr(0, kVersion);
  const std::string_view trace = text.substr(kVersion + 1, kTraceId);
  const std::string_view parent = text.substr(kVersion + kTraceId + 2, kParentId);
  const std::string_view flags = text.substr(kVersion + kTraceId + kParentId + 3, kFlags);
  const bool dashes = text[kVersion] == '-' && text[kVersion + kTraceId + 1] == '-' &&
                      text[kVersion + kTraceId + kParentId + 2] == '-';
  if (!dashes || !is_hex(version) || !is_hex(trace) || !is_hex(parent) || !is_hex(flags))
    return false;
  if (version == "ff" || is_zero(trace) || is_zero(parent)) return false;
  // A later version may have more behind a further dash.
  return text.size() == kTraceparent || (version != "00" && text[kTraceparent] == '-');
}

std::optional<TraceContext> trace_of(const Headers& headers) {
  const auto found = headers.find(kTraceHeader);
  if (found == headers.end()) return std::nullopt;
  try {
    const auto fields = PayloadCodec<std::map<std::string, std::string>>::decode(found->second);
    const auto parent = fields.find("traceparent");
    if (parent == fields.end() || !is_traceparent(parent->second)) return std::nullopt;
    const auto state = fields.find("tracestate");
    return TraceContext{parent->second, state == fields.end() ? std::string{} : state->second};
  } catch (const std::exception&) {
    return std::nullopt;
  }
}

void write_trace(const TraceContext& trace, Headers& headers) {
  if (!is_traceparent(trace.traceparent)) return;
  std::map<std::string, std::string> fields{{"traceparent", trace.traceparent}};
  if (!trace.tracestate.empty() && trace.tracestate.size() <= kLongestState)
    fields.emplace("tracestate", trace.tracestate);
  headers.insert_or_assign(kTraceHeader,
                           PayloadCodec<std::map<std::string, std::string>>::encode(fields));
}

std::optional<TraceContext> current_trace() { return t_current; }

std::shared_ptr<ClientInterceptor> trace_client(TraceSource source) {
  return std::make_shared<TraceClient>(std::move(source));
}

WorkerInterceptors trace_worker() {
  return {.activities = {std::make_shared<TraceActivities>()},
          .workflows = {[] { return std::make_unique<TraceWorkflow>(); }},
          .nexus = {std::make_shared<TraceNexus>()}};
}

}  // namespace tempora
