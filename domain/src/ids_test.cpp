#include <gtest/gtest.h>
#include <addrflow/domain/ids.hpp>

namespace addrflow::domain {
namespace {

TEST(Ids, LegalIdsPass) {
  EXPECT_TRUE(check_id("subscriber_id", "0b7e8f0e-5e0c-4d0a-9b43-1d7a4f0c9d11"));
  EXPECT_TRUE(check_id("subscriber_id", "a.B_9-"));
  EXPECT_TRUE(check_id("subscriber_id", std::string(64, 'x')));
}

TEST(Ids, IllegalIdsAreRefusedWithTheFieldsName) {
  for (const std::string& bad : {std::string{}, std::string{"a/b"}, std::string{"a b"},
                                 std::string{"ä"}, std::string{"a:b"}, std::string(65, 'x')}) {
    const auto checked = check_id("subscriber_id", bad);
    ASSERT_FALSE(checked) << bad;
    EXPECT_EQ(checked.error().field, "subscriber_id");
    EXPECT_TRUE(checked.error().message.starts_with("subscriber_id ")) << checked.error().message;
  }
}

TEST(Ids, EveryPartOfAServiceIsChecked) {
  EXPECT_TRUE(check_service({"acme", "42", "internet"}));
  EXPECT_EQ(check_service({"", "42", "internet"}).error().field, "tenant_id");
  EXPECT_EQ(check_service({"acme", "4/2", "internet"}).error().field, "subscriber_id");
  EXPECT_EQ(check_service({"acme", "42", ""}).error().field, "service");
}

TEST(Ids, ALineWithoutAUsernameIsKnownByItsSubscriber) {
  EXPECT_EQ(username_of("ann@example.net", "42"), "ann@example.net");
  EXPECT_EQ(username_of("", "42"), "42");
}

TEST(Ids, KeysMayHaveColons) {
  EXPECT_TRUE(check_key("key", "order:17"));
  EXPECT_FALSE(check_key("key", "order 17"));
  EXPECT_FALSE(check_key("key", std::string(129, 'k')));
}

TEST(Ids, AWorkflowIdNamesOneServiceOnly) {
  const ServiceId plain{"acme", "42", "internet"};
  EXPECT_EQ(service_workflow_id(plain), "service/acme/42/internet");
  const ServiceId odd{"a/b", "c%d", "e f"};
  EXPECT_EQ(service_workflow_id(odd), "service/a%2Fb/c%25d/e%20f");
  EXPECT_EQ(parse_service_workflow_id(service_workflow_id(plain)), plain);
  EXPECT_EQ(parse_service_workflow_id(service_workflow_id(odd)), odd);
  EXPECT_FALSE(parse_service_workflow_id("service/acme/42"));
  EXPECT_FALSE(parse_service_workflow_id("service/acme/42/%zz"));
  EXPECT_FALSE(parse_service_workflow_id("provision/acme/42/internet"));
}

TEST(Ids, AnUpdateIdCarriesTheKey) {
  EXPECT_EQ(update_id(Operation::kSuspend, "billing:7"), "suspend:billing:7");
  EXPECT_EQ(key_of_update_id(Operation::kSuspend, "suspend:billing:7"), "billing:7");
  EXPECT_EQ(key_of_update_id(Operation::kSuspend, "0b7e8f0e-5e0c"), "0b7e8f0e-5e0c");
}

TEST(Ids, AnyNameMakesALegalKey) {
  EXPECT_EQ(key_from("provision-17"), "provision-17");
  EXPECT_EQ(key_from("orders/17"), "orders:2F17");
  const std::string longest = key_from(std::string(300, 'a'));
  EXPECT_TRUE(check_key("key", longest));
  EXPECT_NE(longest, key_from(std::string(301, 'a')));
  EXPECT_TRUE(check_key("key", step_key(std::string(128, 'k'), "revoke_ipv4_lifecycle")));
  EXPECT_EQ(step_key("order:17", "allocate_ip_handler"), "order:17:allocate_ip_handler");
  EXPECT_TRUE(check_key(
      "key", run_step_key("service/a/b/c", "0b7e8f0e-5e0c-4d0a-9b43-1d7a4f0c9d11", "reserve")));
}

}  // namespace
}  // namespace addrflow::domain
