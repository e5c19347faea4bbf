// Handlers for every name that has none of its own: queries and updates as a program serves them
// that reads its workflows from elsewhere.
#include <peers.hpp>

#include "stage.hpp"

namespace tempora::behaviour {
namespace {

// A store of values under any name, as they come.
struct Store {
  std::map<std::string, Payload> values;
  bool closed = false;

  Task<std::size_t> run(Context& ctx) {
    co_await ctx.wait_until([this] { return closed; });
    co_return values.size();
  }
  int size() const { return static_cast<int>(values.size()); }
  RawPayload get(std::string name, Payloads) const {
    const auto found = values.find(name);
    if (found == values.end()) throw ApplicationError{"there is no " + name, "Missing"};
    return {found->second};
  }
  void may_put(const std::string& name, const Payloads& arguments) const {
    if (name.starts_with("_")) throw ApplicationError{name + " is reserved", "Reserved"};
    if (arguments.payloads_size() != 1) throw ApplicationError{"one value", "OneValue"};
  }
  Task<RawPayload> put(Context& ctx, std::string name, Payloads arguments) {
    co_await ctx.timer(1ms);
    const Payload before = values[name];
    values[name] = arguments.payloads(0);
    co_return RawPayload{before.metadata().empty() ? detail::null_payload() : before};
  }
  int close(Context&) {
    closed = true;
    return 7;
  }
};
const Definition<Store> kStore{"Store",
                               run(&Store::run),
                               query("size", &Store::size),
                               query_dynamic(&Store::get),
                               update("close", &Store::close),
                               update_dynamic(&Store::put, &Store::may_put)};

TEST(DynamicHandlers, TakeEveryNameThatHasNoneOfItsOwn) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    stage.runs(kStore);
    stage.start_worker();
    const auto handle = stage.start(kStore);
    EXPECT_EQ(must(handle.update<std::optional<std::string>>("colour", {}, std::string{"red"})),
              std::nullopt);
    EXPECT_EQ(must(handle.update<std::optional<std::string>>("colour", {}, std::string{"blue"})),
              "red");
    EXPECT_EQ(must(handle.update<std::optional<int>>("year", {}, 1999)), std::nullopt);
    EXPECT_EQ(must(handle.query<std::string>("colour")), "blue");
    EXPECT_EQ(must(handle.query<int>("year")), 1999);
    EXPECT_EQ(must(handle.query<int>("size")), 2) << "the query of that name comes first";
    EXPECT_EQ(must(handle.update<int>("close", {})), 7) << "so does the update";
    EXPECT_EQ(must(handle.result<int>()), 2);
  });
}

TEST(DynamicHandlers, RefuseWhatTheyDoNotKnow) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    stage.runs(kStore);
    stage.start_worker();
    const auto handle = stage.start(kStore);
    const auto missing = handle.query<int>("year");
    ASSERT_FALSE(missing);
    EXPECT_NE(missing.error().message.find("there is no year"), std::string::npos)
        << missing.error().text();
    const auto reserved = handle.update<int>("_year", {}, 1999);
    ASSERT_FALSE(reserved);
    EXPECT_NE(reserved.error().message.find("_year is reserved"), std::string::npos)
        << reserved.error().text();
    EXPECT_EQ(must(handle.update<int>("close", {})), 7);
    EXPECT_EQ(must(handle.result<int>()), 0) << "what was rejected left nothing";
  });
}

// To the type as to the handlers: one definition for all that the registry does not know.
struct Anything {
  std::string run_type, asked;
  Task<std::string> run(Context& ctx, Payloads arguments) {
    run_type = ctx.info().workflow_type;
    co_await ctx.wait_until([this] { return !asked.empty(); });
    co_return run_type + " " + decode_argument<std::string>(arguments) + " " + asked;
  }
  std::string any_query(std::string name, Payloads) const { return run_type + "." + name; }
  std::string any_update(Context&, std::string name, Payloads arguments) {
    return asked = name + " " + decode_argument<std::string>(arguments);
  }
};
const Definition<Anything> kAnything{"anything", run(&Anything::run),
                                     query_dynamic(&Anything::any_query),
                                     update_dynamic(&Anything::any_update)};
struct Unknown {  // what the caller believes it starts
  Task<std::string> run(Context&, std::string) { co_return ""; }
};
const Definition<Unknown> kUnknown{"FromElsewhere", run(&Unknown::run)};

TEST(DynamicHandlers, ServeAWorkflowOfAnyType) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    stage.runs_any(kAnything);
    stage.start_worker();
    const auto handle = stage.start(kUnknown, std::string{"in"});
    EXPECT_EQ(must(handle.query<std::string>("where")), "FromElsewhere.where");
    EXPECT_EQ(must(handle.update<std::string>("tell", {}, std::string{"me"})), "tell me");
    EXPECT_EQ(must(handle.result<std::string>()), "FromElsewhere in tell me");
  });
}

TEST(DynamicHandlers, AreToldOfInTheMetadata) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    stage.runs(kStore);
    stage.start_worker();
    const auto handle = stage.start(kStore);
    const auto metadata = must(handle.query<RawPayload>("__temporal_workflow_metadata"));
    EXPECT_NE(metadata.payload.data().find("takes any other name"), std::string::npos)
        << metadata.payload.data();
    must(handle.update<int>("close", {}));
  });
}

}  // namespace
}  // namespace tempora::behaviour
