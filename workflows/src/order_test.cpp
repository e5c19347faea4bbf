#include "order.hpp"

#include <gtest/gtest.h>

namespace addrflow::workflows {
namespace {

using domain::Operation;

const domain::ServiceId kOwn{"acme", "42", "internet"};

v1::SuspendRequest suspend_request() {
  v1::SuspendRequest request;
  request.mutable_caller()->set_key("k1");
  request.mutable_caller()->set_reason("billing");
  return request;
}

template <class Request>
std::string refused_field(const Request& request) {
  const auto order = to_order(request, kOwn);
  if (order) return "accepted";
  EXPECT_TRUE(order.error().message.starts_with(order.error().field)) << order.error().message;
  return order.error().field;
}

TEST(Order, WhatIsNotGivenIsFilledIn) {
  const auto order = to_order(suspend_request(), kOwn);
  ASSERT_TRUE(order) << order.error().message;
  EXPECT_EQ(order->operation, Operation::kSuspend);
  EXPECT_EQ(order->service.tenant_id(), "acme");
  EXPECT_EQ(order->service.subscriber_id(), "42");
  EXPECT_EQ(order->service.service(), "internet");
  EXPECT_TRUE(order->families.empty()) << "what the line has is the ledger's to say";
  EXPECT_EQ(to_order(v1::AllocateRequest{}, kOwn)->families, std::vector<std::string>{"ipv4"});
  EXPECT_TRUE(order->send_radius);
}

TEST(Order, TheDefaultsAreTheContracts) {
  EXPECT_FALSE(to_order(v1::ActivateRequest{}, kOwn)->send_radius);
  EXPECT_TRUE(to_order(v1::ReactivateRequest{}, kOwn)->send_radius);
  const auto revoke = to_order(v1::RevokeRequest{}, kOwn);
  EXPECT_TRUE(revoke->send_radius);
  EXPECT_TRUE(revoke->release_to_pool);
  v1::RevokeRequest quiet;
  quiet.set_send_disconnect(false);
  quiet.set_release_to_pool(false);
  EXPECT_FALSE(to_order(quiet, kOwn)->send_radius);
  EXPECT_FALSE(to_order(quiet, kOwn)->release_to_pool);
}

TEST(Order, BadInputOfAChangeIsRefusedWithTheFieldsName) {
  v1::MoveRequest move;
  EXPECT_EQ(refused_field(move), "nas_ip");
  move.set_nas_ip("bng-2");
  EXPECT_EQ(refused_field(move), "nas_ip");
  move.set_nas_ip("2001:db8::1/64");
  EXPECT_EQ(refused_field(move), "nas_ip");
  move.set_nas_ip("192.0.2.2");
  EXPECT_EQ(refused_field(move), "accepted");

  v1::RebindRequest rebind;
  EXPECT_EQ(refused_field(rebind), "username");
  for (const char* name : {"a\nb", "x\x7f"}) {
    rebind.set_username(name);
    EXPECT_EQ(refused_field(rebind), "username");
  }
  rebind.set_username(std::string(300, 'x'));
  EXPECT_EQ(refused_field(rebind), "username");

  v1::ChangePlanRequest plan;
  EXPECT_EQ(refused_field(plan), "plan");
  plan.set_plan("gold");
  plan.set_on_coa_failure("maybe");
  EXPECT_EQ(refused_field(plan), "on_coa_failure");

  v1::ReaddressRequest other;
  EXPECT_EQ(refused_field(other), "accepted");
  other.set_ipv6_pd_size(72);
  EXPECT_EQ(refused_field(other), "ipv6_pd_size");
  other.Clear();
  other.set_requested_prefix("2001:db8::1/56");
  EXPECT_EQ(refused_field(other), "requested_prefix");
  other.Clear();
  other.add_families("ipv6_pd");
  other.set_requested_address("203.0.113.9");
  EXPECT_EQ(refused_field(other), "requested_address") << "of a family that is not asked for";
  other.Clear();
  other.set_nas_ip("bng-2");
  EXPECT_EQ(refused_field(other), "nas_ip");
}

TEST(Order, ANasIsNamedByAnAddressOfEitherFamilyInItsOneWrittenForm) {
  const auto check = [](auto request, auto other) {
    request.set_nas_ip("2001:DB8:0::00a1");
    other.set_nas_ip("2001:db8::a1");
    const auto order = to_order(request, kOwn);
    ASSERT_TRUE(order);
    EXPECT_EQ(order->nas_ip, "2001:db8::a1");
    EXPECT_EQ(claim_request(*order).nas_ip(), "2001:db8::a1");
    EXPECT_EQ(order->request_hash, to_order(other, kOwn)->request_hash);
    request.set_nas_ip("192.0.2.2");
    EXPECT_EQ(to_order(request, kOwn)->nas_ip, "192.0.2.2");
  };
  check(v1::AllocateRequest{}, v1::AllocateRequest{});
  check(v1::ActivateRequest{}, v1::ActivateRequest{});
  check(v1::SuspendRequest{}, v1::SuspendRequest{});
  check(v1::RevokeRequest{}, v1::RevokeRequest{});
  check(v1::MoveRequest{}, v1::MoveRequest{});
  check(v1::ReaddressRequest{}, v1::ReaddressRequest{});
}

TEST(Order, BadInputIsRefusedWithTheFieldsName) {
  v1::AllocateRequest request;
  request.mutable_service()->set_subscriber_id("43");
  EXPECT_EQ(refused_field(request), "service.subscriber_id");
  request.Clear();
  request.mutable_caller()->set_key("no spaces");
  EXPECT_EQ(refused_field(request), "caller.key");
  request.Clear();
  request.add_families("ipv5");
  EXPECT_EQ(refused_field(request), "families[0]");
  request.Clear();
  request.add_families("ipv6_pd");
  request.add_families("ipv6_pd");
  EXPECT_EQ(refused_field(request), "families[1]");
  request.Clear();
  request.set_ipv6_pd_size(56);
  EXPECT_EQ(refused_field(request), "ipv6_pd_size") << "nobody asked for a prefix";
  request.add_families("ipv6_pd");
  EXPECT_EQ(refused_field(request), "accepted");
  request.set_ipv6_pd_size(72);
  EXPECT_EQ(refused_field(request), "ipv6_pd_size");
  request.set_ipv6_pd_size(60);
  request.set_requested_prefix("2001:db8:1200::/56");
  EXPECT_EQ(refused_field(request), "requested_prefix") << "the sizes differ";
  request.set_requested_prefix("2001:db8::1/60");
  EXPECT_EQ(refused_field(request), "requested_prefix");
  request.clear_requested_prefix();
  request.set_requested_address("203.0.113.7");
  EXPECT_EQ(refused_field(request), "requested_address") << "nobody asked for an address";
  request.clear_requested_address();
  request.set_optional_family("ipv6_pd");
  EXPECT_EQ(refused_field(request), "optional_family") << "it is the only one";
  request.clear_optional_family();
  request.set_restrict_when("never");
  EXPECT_EQ(refused_field(request), "restrict_when");
  request.Clear();
  request.set_requested_address("203.0.113");
  EXPECT_EQ(refused_field(request), "requested_address");
  request.Clear();
  request.set_nas_ip("bng-1");
  EXPECT_EQ(refused_field(request), "nas_ip");
  request.Clear();
  request.set_username("a\nb");
  EXPECT_EQ(refused_field(request), "username");
  request.Clear();
  request.set_on_netbox_failure("ignore");
  EXPECT_EQ(refused_field(request), "on_netbox_failure");
  v1::RevokeRequest revoke;
  revoke.set_generation(0);
  EXPECT_EQ(refused_field(revoke), "generation");
  EXPECT_EQ(refused_field(v1::ForceReleaseRequest{}), "caller.actor");
  v1::AdoptRequest adopt;
  adopt.set_state("ACTIVE");
  EXPECT_EQ(refused_field(adopt), "state");
}

TEST(Order, TheKeyIsNotPartOfTheHashAndEverythingElseIs) {
  const auto one = to_order(suspend_request(), kOwn);
  v1::SuspendRequest other_key = suspend_request();
  other_key.mutable_caller()->set_key("k2");
  EXPECT_EQ(to_order(other_key, kOwn)->request_hash, one->request_hash);
  v1::SuspendRequest other_reason = suspend_request();
  other_reason.mutable_caller()->set_reason("abuse");
  EXPECT_NE(to_order(other_reason, kOwn)->request_hash, one->request_hash);
  v1::ReactivateRequest other_operation;
  other_operation.mutable_caller()->set_reason("billing");
  EXPECT_NE(to_order(other_operation, kOwn)->request_hash, one->request_hash);
  v1::SuspendRequest with_defaults = suspend_request();
  with_defaults.mutable_service()->set_tenant_id("acme");
  EXPECT_EQ(to_order(with_defaults, kOwn)->request_hash, one->request_hash);
  with_defaults.add_families("ipv4");
  EXPECT_NE(to_order(with_defaults, kOwn)->request_hash, one->request_hash)
      << "a line may have another family that is not meant";
}

// Stored rows hold these hashes: a change of the canonical text would make every old key "reused".
TEST(Order, TheHashIsFrozen) {
  const auto order = to_order(suspend_request(), kOwn);
  EXPECT_EQ(order->request_json,
            R"({"caller":{"key":"k1","reason":"billing"},)"
            R"("service":{"service":"internet","subscriber_id":"42","tenant_id":"acme"}})");
  EXPECT_EQ(order->request_hash,
            sha256_hex(R"(suspend{"caller":{"reason":"billing"},)"
                       R"("service":{"service":"internet","subscriber_id":"42",)"
                       R"("tenant_id":"acme"}})"));
  EXPECT_EQ(sha256_hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST(Order, ARecordedRequestIsTheSameOrder) {
  auto order = to_order(suspend_request(), kOwn);
  set_key(*order, "k9");
  EXPECT_EQ(order->caller.key(), "k9");
  const auto again = order_from_json(Operation::kSuspend, order->request_json, kOwn);
  ASSERT_TRUE(again) << again.error().message;
  EXPECT_EQ(again->request_hash, order->request_hash);
  EXPECT_EQ(again->request_json, order->request_json);
  EXPECT_EQ(again->caller.key(), "k9");
  EXPECT_FALSE(order_from_json(Operation::kSuspend, "{\"x\":1}", kOwn));
  EXPECT_FALSE(order_from_json(Operation::kSuspend, "", kOwn));
}

}  // namespace
}  // namespace addrflow::workflows
