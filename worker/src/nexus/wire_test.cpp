// What goes over the wire beside the API's messages: tokens, links, durations.
#include <gtest/gtest.h>

#include <vector>

#include "nexus/links.hpp"
#include "nexus/token.hpp"
#include "nexus/wire.hpp"

namespace tempora::nexus {
namespace {

using namespace std::chrono_literals;
namespace enums = temporal::api::enums::v1;

TEST(NexusToken, IsReadAsItWasWritten) {
  for (const std::string& id :
       std::vector<std::string>{"a", "ab", "abc", "with \"quotes\" / ü", std::string(300, 'x')}) {
    const auto token = read_token(to_text({"default", id}));
    ASSERT_TRUE(token.has_value()) << id;
    EXPECT_EQ(token->namespace_, "default");
    EXPECT_EQ(token->workflow_id, id);
  }
}

TEST(NexusToken, OfAnotherSdkIsRead) {
  // {"t":1,"ns":"default","wid":"w-1"}
  const auto token = read_token("eyJ0IjoxLCJucyI6ImRlZmF1bHQiLCJ3aWQiOiJ3LTEifQ");
  ASSERT_TRUE(token.has_value());
  EXPECT_EQ(token->workflow_id, "w-1");
}

TEST(NexusToken, OfAnotherKindIsRefused) {
  for (const char* text : {"", "!", "eyJ0IjoxfQ",                          // {"t":1}
                           "eyJ0IjoyLCJucyI6ImEiLCJhaWQiOiJiIn0",          // an activity's
                           "eyJ0IjoxLCJucyI6ImEiLCJ3aWQiOiJiIiwidiI6M30",  // version 3
                           "eyJ0IjoxLCJucyI6ImEiLCJ3aWQiOjd9", "W10", "bnVsbA"}) {
    EXPECT_FALSE(read_token(text).has_value()) << text;
  }
}

Link::WorkflowEvent event(const std::string& id) {
  Link::WorkflowEvent event;
  event.set_namespace_("default");
  event.set_workflow_id(id);
  event.set_run_id("run");
  return event;
}

TEST(NexusLinks, AreReadAsTheyWereWritten) {
  Link::WorkflowEvent by_id = event("a/b c?");
  by_id.mutable_event_ref()->set_event_id(5);
  by_id.mutable_event_ref()->set_event_type(enums::EVENT_TYPE_NEXUS_OPERATION_SCHEDULED);
  const auto link = to_url(by_id);
  EXPECT_EQ(link.url(),
            "temporal:///namespaces/default/workflows/a%2Fb%20c%3F/run/history"
            "?eventID=5&eventType=NexusOperationScheduled&referenceType=EventReference");
  EXPECT_EQ(link.type(), "temporal.api.common.v1.Link.WorkflowEvent");
  const auto back = from_url(link);
  ASSERT_TRUE(back.has_value());
  EXPECT_EQ(back->workflow_event().SerializeAsString(), by_id.SerializeAsString());

  Link::WorkflowEvent by_request = event("w");
  by_request.mutable_request_id_ref()->set_request_id("r&1");
  by_request.mutable_request_id_ref()->set_event_type(enums::EVENT_TYPE_WORKFLOW_EXECUTION_STARTED);
  const auto again = from_url(to_url(by_request));
  ASSERT_TRUE(again.has_value());
  EXPECT_EQ(again->workflow_event().SerializeAsString(), by_request.SerializeAsString());
}

TEST(NexusLinks, ToSomethingElseAreLeftOut) {
  auto link = to_url(event("w"));
  link.set_type("somebody.else");
  EXPECT_FALSE(from_url(link).has_value());
  for (const char* url : {"", "https://x/namespaces/a/workflows/b/c/history", "temporal://",
                          "temporal:///namespaces/a/workflows/b/c",
                          "temporal:///namespaces/a/activities/b/c/history"}) {
    auto other = to_url(event("w"));
    other.set_url(url);
    EXPECT_FALSE(from_url(other).has_value()) << url;
  }
}

TEST(NexusTimeout, IsReadAsGoWritesIt) {
  EXPECT_EQ(read_timeout("10s"), 10s);
  EXPECT_EQ(read_timeout("1m30s"), 90s);
  EXPECT_EQ(read_timeout("1h0m0.5s"), 1h + 500ms);
  EXPECT_EQ(read_timeout("250ms"), 250ms);
  EXPECT_EQ(read_timeout("-3s"), 0s);
  EXPECT_EQ(read_timeout("99999999h"), 365 * 24h);
  for (const char* text : {"", "s", "10", "10x", "s10", "1.2.3"})
    EXPECT_FALSE(read_timeout(text).has_value()) << text;
}

TEST(NexusFailure, ForOldServersHoldsTheWholeFailure) {
  const auto wrapped = wrap(ApplicationError{"no", "Refused", true}.proto());
  EXPECT_EQ(wrapped.message(), "no");
  EXPECT_EQ(wrapped.metadata().at("type"), "temporal.api.failure.v1.Failure");
  EXPECT_NE(wrapped.details().find("\"nonRetryable\":true"), std::string::npos)
      << wrapped.details();
}

}  // namespace
}  // namespace tempora::nexus
