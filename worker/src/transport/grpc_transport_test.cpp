#include "grpc_transport.hpp"

#include <google/protobuf/empty.pb.h>
#include <gtest/gtest.h>

#include <stdexcept>

#include "retrying_caller.hpp"

namespace tempora {
namespace {

// Refused before anything leaves: nobody listens at the address.
CallStatus status_with(std::function<std::string()> provider) {
  ConnectionOptions options{.address = "127.0.0.1:1"};
  options.api_key_provider = std::move(provider);
  const auto transport = make_grpc_transport(options);
  const google::protobuf::Empty request;
  google::protobuf::Empty response;
  CallStatus seen;
  (*transport)->start("/s/M", request, &response, {}, [&](CallStatus status) {
    seen = std::move(status);
  });
  return seen;
}

TEST(GrpcTransport, AKeyThatNoHeaderCanHaveIsUnauthenticatedAndNoEndOfTheProcess) {
  const CallStatus status = status_with([] { return std::string{"rotated\n"}; });
  EXPECT_EQ(status.code, grpc_code::kUnauthenticated);
  EXPECT_NE(status.message.find("api_key_provider"), std::string::npos);
  EXPECT_EQ(status.message.find("rotated"), std::string::npos) << "it is a secret";
}

TEST(GrpcTransport, AKeyProviderThatThrowsIsUnauthenticated) {
  const CallStatus status =
      status_with([]() -> std::string { throw std::runtime_error{"no such file"}; });
  EXPECT_EQ(status.code, grpc_code::kUnauthenticated);
  EXPECT_NE(status.message.find("no such file"), std::string::npos);
}

TEST(GrpcTransport, ANamespaceThatNoHeaderCanHaveIsRefused) {
  const auto refused = make_grpc_transport({.address = "127.0.0.1:1", .namespace_ = "a\nb"});
  ASSERT_FALSE(refused.has_value());
  EXPECT_NE(refused.error().message.find("namespace"), std::string::npos);
}

}  // namespace
}  // namespace tempora
