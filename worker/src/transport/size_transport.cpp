#include "size_transport.hpp"

#include <fmt/format.h>
#include <google/protobuf/any.pb.h>
#include <temporal/api/workflowservice/v1/request_response.pb.h>

#include <algorithm>
#include <atomic>
#include <vector>

#include "refused_call.hpp"
#include "retrying_caller.hpp"
#include "virtual_time.hpp"

namespace tempora {

namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;
namespace common = temporal::api::common::v1;
namespace command = temporal::api::command::v1;

std::string too_large(const std::string& what, const Message& owner, std::size_t bytes,
                      std::size_t limit) {
  return fmt::format("{} of {} has {} bytes, the server takes {}", what,
                     owner.GetDescriptor()->name(), bytes, limit);
}

// The limit for `field` as a whole; nothing if its parts have to be looked at.
const std::size_t* limit_of(const Message& field, const SizeLimits& limits) {
  const auto* type = field.GetDescriptor();
  // An `Any` is the body of an update's message.
  const bool whole = type == common::Payloads::descriptor() ||
                     type == command::Command::descriptor() ||
                     type == google::protobuf::Any::descriptor();
  if (whole) return &limits.payloads;
  if (type == common::Memo::descriptor()) return &limits.memo;
  return nullptr;
}

std::string find_in(const Message& message, const SizeLimits& limits, std::size_t least);

std::string find_in_field(const Message& message, const FieldDescriptor& name, const Message& field,
                          const SizeLimits& limits, std::size_t least) {
  const std::size_t bytes = field.ByteSizeLong();
  if (bytes <= least) return {};
  if (const std::size_t* limit = limit_of(field, limits)) {
    if (bytes > *limit) return too_large(name.name(), message, bytes, *limit);
    // A command may hold a memo, which has a limit of its own.
    if (field.GetDescriptor() != command::Command::descriptor()) return {};
  }
  // The server cuts a failure that is too long by itself.
  if (field.GetDescriptor()->full_name() == "temporal.api.failure.v1.Failure") return {};
  return find_in(field, limits, least);
}

// Only what has more than `least` bytes can hold something that is too large.
std::string find_in(const Message& message, const SizeLimits& limits, std::size_t least) {
  const Reflection& reflection = *message.GetReflection();
  std::vector<const FieldDescriptor*> fields;
  reflection.ListFields(message, &fields);
  for (const FieldDescriptor* field : fields) {
    if (field->cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE) continue;
    const int count = field->is_repeated() ? reflection.FieldSize(message, field) : 1;
    for (int i = 0; i < count; ++i) {
      const Message& each = field->is_repeated() ? reflection.GetRepeatedMessage(message, field, i)
                                                 : reflection.GetMessage(message, field);
      if (auto found = find_in_field(message, *field, each, limits, least); !found.empty())
        return found;
    }
  }
  return {};
}

class SizeTransport : public Transport {
 public:
  SizeTransport(std::shared_ptr<Transport> inner, std::size_t payloads)
      : inner_(std::move(inner)), fixed_(payloads > 0) {
    if (fixed_) payloads_ = payloads;
  }

  std::shared_ptr<PendingCall> start(std::string_view method, const Message& request,
                                     Message* response, CallOptions options,
                                     std::function<void(CallStatus)> done) override {
    const SizeLimits limits{.payloads = payloads_, .memo = memo_};
    if (const std::string found = find_oversize(request, limits); !found.empty()) {
      done({.code = grpc_code::kResourceExhausted,
            .message = "Sent message larger than max: [TMPRL1103] " + found});
      return std::make_shared<RefusedCall>();
    }
    return inner_->start(method, request, response, std::move(options), std::move(done));
  }

  SizeLimits learn(const SizeLimits& limits) override {
    if (!fixed_) payloads_ = limits.payloads;
    memo_ = limits.memo;
    SizeLimits hold = inner_->learn(limits);
    hold.payloads = std::min<std::size_t>(hold.payloads, payloads_);
    return hold;
  }
  SizeLimits known() const override { return {.payloads = payloads_, .memo = memo_}; }

 private:
  const std::shared_ptr<Transport> inner_;
  const bool fixed_;
  std::atomic<std::size_t> payloads_{SizeLimits{}.payloads};
  std::atomic<std::size_t> memo_{SizeLimits{}.memo};
};

// What is marked below stays marked.
class VirtualSizeTransport final : public SizeTransport, public VirtualTime {
 public:
  using SizeTransport::SizeTransport;
};

}  // namespace

std::string find_oversize(const Message& request, const SizeLimits& limits) {
  const std::size_t least = std::min(limits.payloads, limits.memo);
  if (request.ByteSizeLong() <= least) return {};
  return find_in(request, limits, least);
}

std::shared_ptr<Transport> with_size_checks(std::shared_ptr<Transport> inner,
                                            std::size_t payloads) {
  if (dynamic_cast<const VirtualTime*>(inner.get()) != nullptr)
    return std::make_shared<VirtualSizeTransport>(std::move(inner), payloads);
  return std::make_shared<SizeTransport>(std::move(inner), payloads);
}

}  // namespace tempora
