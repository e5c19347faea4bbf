// One JSON file a message, as any SDK sees it on the wire. A field that is added, renamed or
// changes its type shows as a change of its file: `ADDRFLOW_UPDATE_GOLDENS=1` writes them anew, the
// review decides.
#include <addrflow/v1/activities.pb.h>
#include <addrflow/v1/evidence.pb.h>
#include <addrflow/v1/lifecycle.pb.h>
#include <addrflow/v1/netbox.pb.h>
#include <addrflow/v1/operators.pb.h>
#include <addrflow/v1/provision.pb.h>
#include <google/protobuf/descriptor.h>
#include <google/protobuf/util/message_differencer.h>
#include <gtest/gtest.h>
#include <addrflow/v1/json.hpp>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <set>
#include <sstream>

namespace addrflow::v1 {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

std::vector<const Descriptor*> all_messages() {
  std::vector<const Descriptor*> all;
  for (const auto* file :
       {ServiceRef::descriptor()->file(), ProvisionRequest::descriptor()->file(),
        Claim::descriptor()->file(), CatchUpRequest::descriptor()->file(),
        ListRequest::descriptor()->file(), NetboxCatchUpRequest::descriptor()->file()}) {
    for (int i = 0; i < file->message_type_count(); ++i) all.push_back(file->message_type(i));
  }
  return all;
}

// Values that look like the real thing, by field name.
const std::map<std::string, std::string, std::less<>> kTexts{
    {"tenant_id", "acme"},
    {"subscriber_id", "0b7e8f0e-5e0c-4d0a-9b43-1d7a4f0c9d11"},
    {"customer_id", "cust-1001"},
    {"service", "internet"},
    {"key", "order:1001"},
    {"actor", "crm"},
    {"reason", "billing"},
    {"family", "ipv4"},
    {"families", "ipv4"},
    {"username", "cust-1001@example.net"},
    {"nas_ip", "192.0.2.1"},
    {"plan", "fiber-100"},
    {"state", "active"},
    {"address", "203.0.113.7"},
    {"requested_address", "203.0.113.7"},
    {"pool", "public-1"},
    {"code", "ok"},
    {"message", "Done"},
    {"operation", "suspend"},
    {"system", "radius"},
    {"action", "coa"},
    {"status", "confirmed"},
    {"enforcement", "confirmed"},
    {"allocated_at", "2026-01-15T10:00:00Z"},
    {"activated_at", "2026-01-15T10:00:01Z"},
    {"suspended_at", "2026-02-01T08:30:00Z"},
    {"revoked_at", "2026-03-01T00:00:00Z"},
    {"updated_at", "2026-02-01T08:30:01Z"},
    {"holds", "billing"},
    {"ipv4_address", "203.0.113.7"},
    {"ipv4_lifecycle_state", "ACTIVE"},
    {"name", "allocate_ip_handler"},
    {"outcome", "claimed"},
    {"netbox_mode", "mirror"},
    {"workflow_id", "provision-1001"},
    {"run_id", "1f0e6c5e-8f0e-4d0a-9b43-1d7a4f0c9d22"},
    {"on_netbox_failure", "pending"},
    {"on_coa_failure", "pending"},
    {"avoid", "203.0.113.6"},
    {"evidence", "strong"},
};

std::string text_for(const FieldDescriptor* field) {
  const auto found = kTexts.find(field->name());
  return found == kTexts.end() ? "a " + field->name() : found->second;
}

void fill(Message& message) {
  const auto* reflection = message.GetReflection();
  for (int i = 0; i < message.GetDescriptor()->field_count(); ++i) {
    const FieldDescriptor* field = message.GetDescriptor()->field(i);
    if (field->is_map()) {
      Message* entry = reflection->AddMessage(&message, field);
      entry->GetReflection()->SetString(entry, field->message_type()->map_key(),
                                        "allocation_method");
      entry->GetReflection()->SetString(entry, field->message_type()->map_value(), "auto");
    } else if (field->is_repeated() && field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
      fill(*reflection->AddMessage(&message, field));
    } else if (field->is_repeated()) {
      reflection->AddString(&message, field, text_for(field));
    } else if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
      fill(*reflection->MutableMessage(&message, field));
    } else if (field->cpp_type() == FieldDescriptor::CPPTYPE_STRING) {
      reflection->SetString(&message, field, text_for(field));
    } else if (field->cpp_type() == FieldDescriptor::CPPTYPE_BOOL) {
      reflection->SetBool(&message, field, true);
    } else if (field->cpp_type() == FieldDescriptor::CPPTYPE_INT32) {
      reflection->SetInt32(&message, field, 100 + field->number());
    } else {
      ASSERT_EQ(field->cpp_type(), FieldDescriptor::CPPTYPE_INT64)
          << field->full_name() << " needs a sample";
      reflection->SetInt64(&message, field, 1000 + field->number());
    }
  }
}

std::unique_ptr<Message> make(const Descriptor* descriptor) {
  return std::unique_ptr<Message>{
      google::protobuf::MessageFactory::generated_factory()->GetPrototype(descriptor)->New()};
}

std::filesystem::path golden_path(const Descriptor* descriptor) {
  return std::filesystem::path{ADDRFLOW_GOLDENS_DIR} / (descriptor->name() + ".json");
}

std::string read_file(const std::filesystem::path& path) {
  std::ifstream file{path};
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

class Golden : public testing::TestWithParam<const Descriptor*> {};

TEST_P(Golden, MessageAndFileSayTheSame) {
  const auto message = make(GetParam());
  fill(*message);
  const std::filesystem::path path = golden_path(GetParam());
  if (std::getenv("ADDRFLOW_UPDATE_GOLDENS") != nullptr)
    std::ofstream{path} << to_json_pretty(*message);

  const std::string golden = read_file(path);
  ASSERT_FALSE(golden.empty()) << path << " is missing";
  EXPECT_EQ(to_json_pretty(*message), golden);

  const auto back = make(GetParam());
  const auto read = from_json_text(golden, *back);
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_TRUE(google::protobuf::util::MessageDifferencer::Equals(*message, *back));
}

TEST_P(Golden, AnEmptyMessageComesBackEmpty) {
  const auto empty = make(GetParam());
  const auto back = make(GetParam());
  const auto read = from_json(to_json(*empty), *back);
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_TRUE(google::protobuf::util::MessageDifferencer::Equals(*empty, *back));
}

INSTANTIATE_TEST_SUITE_P(Messages, Golden, testing::ValuesIn(all_messages()),
                         [](const auto& info) { return info.param->name(); });

TEST(Goldens, EveryFileBelongsToAMessage) {
  std::set<std::string> names;
  for (const Descriptor* descriptor : all_messages())
    names.insert(golden_path(descriptor).filename());
  for (const auto& entry : std::filesystem::directory_iterator{ADDRFLOW_GOLDENS_DIR}) {
    EXPECT_TRUE(names.contains(entry.path().filename())) << entry.path();
  }
}

}  // namespace
}  // namespace addrflow::v1
