// Nexus: endpoints are made, found, changed and removed.
#include <algorithm>
#include <peers.hpp>
#include <tempora/nexus_endpoint.hpp>

#include "stage.hpp"

namespace tempora::behaviour {
namespace {

TEST(NexusEndpoints, AreMadeFoundChangedAndRemoved) {
  NEEDS_SERVER();
  const Client client = connect();
  const NexusEndpointClient endpoints = client.nexus_endpoints();
  const NexusEndpointSpec spec{
      .name = unique("endpoint"), .description = "for *tests*", .task_queue = "here"};
  const auto made = must(endpoints.create(spec));
  EXPECT_FALSE(made.id.empty());
  EXPECT_EQ(made.spec.namespace_, client.namespace_name());
  EXPECT_EQ(made.spec.task_queue, "here");
  EXPECT_EQ(made.spec.description, "for *tests*");
  EXPECT_TRUE(made.created.has_value());

  const auto twice = endpoints.create(spec);
  ASSERT_FALSE(twice.has_value());
  EXPECT_EQ(twice.error().code, ErrorCode::kAlreadyExists) << twice.error().text();

  EXPECT_EQ(must(endpoints.describe(made.id)).spec.name, spec.name);
  const auto found = must(endpoints.find(spec.name));
  ASSERT_TRUE(found.has_value());
  EXPECT_EQ(found->id, made.id);
  EXPECT_FALSE(must(endpoints.find(unique("nobody"))).has_value());
  const auto all = must(endpoints.list());
  EXPECT_NE(std::ranges::find(all, made.id, &NexusEndpointDescription::id), all.end());

  NexusEndpointSpec elsewhere = spec;
  elsewhere.task_queue.clear();
  elsewhere.url = "http://localhost:7253/nexus";
  const auto changed = must(endpoints.update(made.id, made.version, elsewhere));
  EXPECT_EQ(changed.spec.url, elsewhere.url);
  EXPECT_TRUE(changed.spec.task_queue.empty());
  EXPECT_GT(changed.version, made.version);
  EXPECT_FALSE(endpoints.update(made.id, made.version, spec).has_value())
      << "somebody has changed it since";

  must(endpoints.remove(made.id, changed.version));
  const auto gone = endpoints.describe(made.id);
  ASSERT_FALSE(gone.has_value());
  EXPECT_EQ(gone.error().code, ErrorCode::kNotFound) << gone.error().text();
}

TEST(NexusEndpoints, ThatLeadNowhereAreRefusedBeforeTheyAreSent) {
  NEEDS_SERVER();
  const NexusEndpointClient endpoints = connect().nexus_endpoints();
  const std::pair<NexusEndpointSpec, std::string> cases[] = {
      {{.task_queue = "here"}, "name"},
      {{.name = "nowhere"}, "task_queue"},
      {{.name = "both", .task_queue = "here", .url = "http://there"}, "task_queue"},
      {{.name = "odd", .namespace_ = "n", .url = "http://there"}, "namespace_"}};
  for (const auto& [spec, field] : cases) {
    const auto made = endpoints.create(spec);
    ASSERT_FALSE(made.has_value()) << field;
    EXPECT_EQ(made.error().code, ErrorCode::kInvalidArgument);
    EXPECT_TRUE(made.error().message.starts_with(field + ":")) << made.error().text();
  }
}

}  // namespace
}  // namespace tempora::behaviour
