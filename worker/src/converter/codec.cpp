// Finds the payloads of a message, whatever it is, by reflection: a new field of the API is covered
// without a change here.
#include <google/protobuf/any.pb.h>
#include <temporal/api/errordetails/v1/message.pb.h>
#include <temporal/api/failure/v1/message.pb.h>
#include <temporal/api/update/v1/message.pb.h>

#include <mutex>
#include <set>
#include <shared_mutex>
#include <tempora/codec.hpp>
#include <unordered_map>

namespace tempora {

namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using temporal::api::failure::v1::Failure;

constexpr int kMaxDepth = 200;  // causes of failures nest; what is deeper stays as it is
constexpr const char* kEncodedFailure = "Encoded failure";

bool is_message(const FieldDescriptor* field) {
  return field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE;
}

// The server and others must be able to read these.
bool is_left_alone(const Descriptor* type) {
  return type->full_name() == "temporal.api.common.v1.SearchAttributes" ||
         type->full_name() == "temporal.api.common.v1.Header";
}

bool is_holder(const Descriptor* type) {
  return type == Payload::descriptor() || type == Failure::descriptor() ||
         type == google::protobuf::Any::descriptor();
}

bool reaches(const Descriptor* type, std::set<const Descriptor*>& seen) {
  if (is_left_alone(type)) return false;
  if (is_holder(type)) return true;
  if (!seen.insert(type).second) return false;
  for (int i = 0; i < type->field_count(); ++i) {
    const FieldDescriptor* field = type->field(i);
    if (is_message(field) && reaches(field->message_type(), seen)) return true;
  }
  return false;
}

// Whether a message of the type can hold payloads at all; most cannot, and are passed over.
bool may_hold_payloads(const Descriptor* type) {
  static std::shared_mutex mutex;
  static std::unordered_map<const Descriptor*, bool> known;
  {
    const std::shared_lock lock{mutex};
    if (const auto found = known.find(type); found != known.end()) return found->second;
  }
  std::set<const Descriptor*> seen;
  const bool answer = reaches(type, seen);
  const std::unique_lock lock{mutex};
  known.emplace(type, answer);
  return answer;
}

class Walk {
 public:
  explicit Walk(const CodecOptions& options) : options_(options) {}
  virtual ~Walk() = default;

  void visit(Message& message, int depth) {
    const Descriptor* type = message.GetDescriptor();
    if (depth > kMaxDepth || !may_hold_payloads(type)) return;
    if (type == Payload::descriptor()) return one(static_cast<Payload&>(message));
    if (type == Payloads::descriptor()) return list(static_cast<Payloads&>(message));
    if (type == google::protobuf::Any::descriptor())
      return any(static_cast<google::protobuf::Any&>(message), depth);
    if (type == Failure::descriptor()) return failure(static_cast<Failure&>(message), depth);
    texts(message);
    fields(message, depth);
  }

 protected:
  virtual std::vector<Payload> change(std::vector<Payload> payloads) const = 0;
  virtual void failure(Failure& failure, int depth) = 0;
  virtual void texts(Message&) const {}

  void fields(Message& message, int depth) {
    const auto* reflection = message.GetReflection();
    std::vector<const FieldDescriptor*> set;
    reflection->ListFields(message, &set);
    for (const FieldDescriptor* field : set) {
      if (!is_message(field) || !may_hold_payloads(field->message_type())) continue;
      if (!field->is_repeated()) {
        visit(*reflection->MutableMessage(&message, field), depth + 1);
        continue;
      }
      const int size = reflection->FieldSize(message, field);
      for (int i = 0; i < size; ++i)
        visit(*reflection->MutableRepeatedMessage(&message, field, i), depth + 1);
    }
  }
  void one(Payload& payload) {
    std::vector<Payload> changed = change({payload});
    if (changed.size() != 1) throw PayloadError{"codec: gave back another number of payloads"};
    payload = std::move(changed.front());
  }
  const CodecOptions& options_;

 private:
  void list(Payloads& payloads) {
    if (payloads.payloads_size() == 0) return;
    std::vector<Payload> changed = change({payloads.payloads().begin(), payloads.payloads().end()});
    if (static_cast<int>(changed.size()) != payloads.payloads_size())
      throw PayloadError{"codec: gave back another number of payloads"};
    for (int i = 0; i < payloads.payloads_size(); ++i)
      *payloads.mutable_payloads(i) = std::move(changed[static_cast<std::size_t>(i)]);
  }

  // The bodies of the messages that carry updates, and what a status says of a failed query.
  void any(google::protobuf::Any& packed, int depth) {
    namespace update = temporal::api::update::v1;
    repack<update::Request>(packed, depth) || repack<update::Response>(packed, depth) ||
        repack<update::Acceptance>(packed, depth) || repack<update::Rejection>(packed, depth) ||
        repack<temporal::api::errordetails::v1::QueryFailedFailure>(packed, depth);
  }
  template <class T>
  bool repack(google::protobuf::Any& packed, int depth) {
    if (!packed.Is<T>()) return false;
    T body;
    if (!packed.UnpackTo(&body)) return true;
    visit(body, depth + 1);
    packed.PackFrom(body);
    return true;
  }
};

class Encoding final : public Walk {
 public:
  using Walk::Walk;

 private:
  // The answers to queries say the same twice: as a failure and, for old servers, as a text.
  void texts(Message& message) const override {
    if (!options_.encode_failures) return;
    const FieldDescriptor* text = message.GetDescriptor()->FindFieldByName("error_message");
    const FieldDescriptor* whole = message.GetDescriptor()->FindFieldByName("failure");
    if (text == nullptr || whole == nullptr || whole->message_type() != Failure::descriptor())
      return;
    const auto* reflection = message.GetReflection();
    if (reflection->HasField(message, whole))
      reflection->SetString(&message, text, kEncodedFailure);
  }
  std::vector<Payload> change(std::vector<Payload> payloads) const override {
    for (auto codec = options_.codecs.rbegin(); codec != options_.codecs.rend(); ++codec)
      payloads = (*codec)->encode(std::move(payloads));
    return payloads;
  }
  void failure(Failure& failure, int depth) override {
    if (options_.encode_failures && !failure.has_encoded_attributes()) {
      *failure.mutable_encoded_attributes() = PayloadCodec<nlohmann::json>::encode(
          {{"message", failure.message()}, {"stack_trace", failure.stack_trace()}});
      failure.set_message(kEncodedFailure);
      failure.clear_stack_trace();
    }
    fields(failure, depth);
  }
};

class Decoding final : public Walk {
 public:
  using Walk::Walk;

 private:
  std::vector<Payload> change(std::vector<Payload> payloads) const override {
    try {
      std::vector<Payload> changed = payloads;
      for (const auto& codec : options_.codecs) changed = codec->decode(std::move(changed));
      return changed;
    } catch (const std::exception&) {
      return payloads;  // whoever reads the value says so
    }
  }
  void failure(Failure& failure, int depth) override {
    fields(failure, depth);
    if (!failure.has_encoded_attributes()) return;
    try {
      const auto told = PayloadCodec<nlohmann::json>::decode(failure.encoded_attributes());
      failure.set_message(told.at("message").get<std::string>());
      failure.set_stack_trace(told.value("stack_trace", ""));
      failure.clear_encoded_attributes();
    } catch (const std::exception&) {
      return;  // not for us: it stays an encoded failure
    }
  }
};

}  // namespace

void encode_payloads(Message& message, const CodecOptions& options) {
  Encoding{options}.visit(message, 0);
}

void decode_payloads(Message& message, const CodecOptions& options) {
  Decoding{options}.visit(message, 0);
}

}  // namespace tempora
