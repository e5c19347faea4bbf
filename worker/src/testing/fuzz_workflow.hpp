// For the fuzzers: a workflow of any type that uses what a history can speak of.
#pragma once

#include <tempora/definition.hpp>
#include <tempora/replayer.hpp>

namespace tempora::testing {

inline const ActivityType<std::string, std::string> kFuzzedActivity{
    "activity", {.start_to_close = std::chrono::seconds{10}}};

struct FuzzedWorkflow {
  Task<Payloads> run(Context& ctx, Payloads input) {
    const std::string text = "x";
    auto activity = ctx.start(kFuzzedActivity, text);
    auto timer = ctx.timer(std::chrono::seconds{1});
    const bool changed = ctx.patched("change");
    auto child = ctx.start_child<std::string>("child", {.id = "child"});
    auto signalled = ctx.external("other").signal("knock", 1);
    auto local = ctx.start_local(kFuzzedActivity, text);
    const int drawn = ctx.side_effect([] { return 4; });
    if (changed) ctx.upsert_memo("drawn", drawn);
    const std::size_t first =
        co_await select(ctx, {activity, timer, child.result(), signalled, local});
    if (first == 1) activity.cancel();
    co_await join(ctx, {activity, timer, child.result(), signalled, local});
    co_await ctx.wait_until([this] { return signals_ > 0; }, std::chrono::hours{1});
    co_return input;
  }
  Task<void> on_any(Context& ctx, std::string, Payloads) {
    ++signals_;
    co_await ctx.sleep(std::chrono::seconds{1});
  }
  Task<int> change(Context&, int by) { co_return signals_ += by; }
  int signals_ = 0;
};

inline const Definition<FuzzedWorkflow>& fuzzed_workflow() {
  static const Definition<FuzzedWorkflow> kDefinition{
      "workflow", tempora::run(&FuzzedWorkflow::run), signal_dynamic(&FuzzedWorkflow::on_any),
      update("change", &FuzzedWorkflow::change)};
  return kDefinition;
}

inline const Replayer& fuzzed_replayer() {
  static const Replayer kReplayer{[] {
    WorkflowRegistry registry;
    registry.add(fuzzed_workflow());
    registry.add_fallback(fuzzed_workflow());
    return registry;
  }()};
  return kReplayer;
}

}  // namespace tempora::testing
