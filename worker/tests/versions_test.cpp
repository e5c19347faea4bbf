// Continue-as-new, patches, and search attributes: what a long-lived workflow needs to change over
// time.
#include <temporal/api/enums/v1/event_type.pb.h>
#include <temporal/api/history/v1/message.pb.h>

#include <peers.hpp>

#include "stage.hpp"

namespace tempora::behaviour {
namespace {

struct Chain {
  Task<int> run(Context& ctx, int left) {
    co_await ctx.sleep(10ms);
    if (left > 0) ctx.continue_as_new(left - 1);
    co_return left;
  }
};

const Definition<Chain> kChain{"Chain", run(&Chain::run)};

TEST(ContinueAsNew, GoesOnInANewRunToTheEnd) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    stage.runs(kChain);
    stage.start_worker();
    const auto handle = stage.start(kChain, 3);
    EXPECT_EQ(must(handle.result<int>()), 0);
    const auto last = must(stage.client().handle(handle.id()).describe());
    EXPECT_NE(last.run_id, handle.started_run_id());
    EXPECT_EQ(last.first_run_id, handle.started_run_id());
    const auto first = handle.result<int>({.follow_runs = false});
    ASSERT_FALSE(first.has_value());
    EXPECT_EQ(first.error().code, ErrorCode::kWorkflowContinued) << first.error().text();
    EXPECT_FALSE(first.error().run_id.empty());
    EXPECT_NE(first.error().run_id, handle.started_run_id());
  });
}

struct Patched {
  Task<std::string> run(Context& ctx) {
    std::string path = ctx.patched("new-greeting") ? "new" : "old";
    co_await ctx.sleep(20ms);
    path += ctx.patched("new-greeting") ? " new" : " old";
    ctx.deprecate_patch("older-change");
    co_await ctx.sleep(20ms);
    path += ctx.patched("second-change") ? " second" : " first";
    co_return path;
  }
};

const Definition<Patched> kPatched{"Patched", run(&Patched::run)};

TEST(Patches, AreOnInNewRunsAndStaySo) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    stage.runs(kPatched);
    stage.start_worker();
    EXPECT_EQ(must(stage.start(kPatched).result<std::string>()), "new new second");
  });
}

// The same workflow type before and after a change, as two deployments of one worker.
struct Before {
  bool go = false;
  Task<std::string> run(Context& ctx) {
    co_await ctx.sleep(10ms);
    co_await ctx.wait_until([this] { return go; });
    co_await ctx.sleep(10ms);
    co_return "before";
  }
  void proceed(Context&) { go = true; }
};
struct After {
  bool go = false;
  Task<std::string> run(Context& ctx) {
    const bool changed = ctx.patched("no-first-sleep");
    if (!changed) co_await ctx.sleep(10ms);
    co_await ctx.wait_until([this] { return go; });
    co_await ctx.sleep(10ms);
    co_return changed ? "after, new run" : "after, old run";
  }
  void proceed(Context&) { go = true; }
};

const Definition<Before> kBefore{"Changing", run(&Before::run), signal("go", &Before::proceed)};
const Definition<After> kAfter{"Changing", run(&After::run), signal("go", &After::proceed)};

TEST(Patches, KeepOldRunsOnTheirOldPath) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    Stage old_build{stage.client(), stage.max_cached()};
    old_build.options.task_queue = stage.queue();
    old_build.runs(kBefore).start_worker();
    stage.runs(kAfter);
    const auto old_run = stage.start(kAfter);
    stage.wait_for_event(old_run, temporal::api::enums::v1::EVENT_TYPE_TIMER_FIRED);
    old_build.worker().shutdown();
    stage.start_worker();
    const auto new_run = stage.start(kAfter);
    must(old_run.signal("go"));
    must(new_run.signal("go"));
    EXPECT_EQ(must(old_run.result<std::string>()), "after, old run");
    EXPECT_EQ(must(new_run.result<std::string>()), "after, new run");
  });
}

struct Labelled {
  Task<std::string> run(Context& ctx, std::string value) {
    SearchAttributes changes;
    changes.set_keyword("TemporaBehaviour", value);
    ctx.upsert_search_attributes(changes);
    co_await ctx.sleep(10ms);
    co_return ctx.info().search_attributes.get<std::string>("TemporaBehaviour").value_or("nothing");
  }
};

const Definition<Labelled> kLabelled{"Labelled", run(&Labelled::run)};

TEST(SearchAttributes, CanBeChangedByTheRunAndAreSeenOutside) {
  NEEDS_SERVER();
  must(connect().add_search_attributes({{"TemporaBehaviour", SearchAttributeType::kKeyword}}));
  with_each_cache([](Stage& stage) {
    stage.runs(kLabelled);
    stage.start_worker();
    const std::string value = unique("label");
    const auto handle = stage.start(kLabelled, value);
    EXPECT_EQ(must(handle.result<std::string>()), value);
    EXPECT_EQ(must(handle.describe()).search_attributes.get<std::string>("TemporaBehaviour"),
              value);
  });
}

}  // namespace
}  // namespace tempora::behaviour
