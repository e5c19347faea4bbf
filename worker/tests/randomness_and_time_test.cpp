// What a workflow draws and what time it has are the same however often it is replayed.
#include <temporal/api/enums/v1/event_type.pb.h>

#include <peers.hpp>
#include <regex>

#include "stage.hpp"

namespace tempora::behaviour {
namespace {

struct Draws {
  std::vector<std::string> drawn;
  bool done = false;

  Task<std::vector<std::string>> run(Context& ctx) {
    draw(ctx);
    const TimePoint before = ctx.now();
    co_await ctx.sleep(100ms);
    drawn.push_back(ctx.now() - before >= 100ms ? "later" : "too early");
    draw(ctx);
    co_await ctx.wait_until([this] { return done; });
    draw(ctx);
    co_return drawn;
  }
  void draw(Context& ctx) {
    drawn.push_back(std::to_string(ctx.random()));
    drawn.push_back(ctx.uuid());
    drawn.push_back(std::to_string(ctx.now().time_since_epoch().count()));
  }
  void finish(Context&) { done = true; }
  std::vector<std::string> read() const { return drawn; }
};
const Definition<Draws> kDraws{"Draws", run(&Draws::run), signal("finish", &Draws::finish),
                               query("read", &Draws::read)};

using Drawn = std::vector<std::string>;

TEST(RandomnessAndTime, AreTheSameForEveryWorkerThatReplaysTheRun) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    stage.runs(kDraws);
    stage.start_worker();
    const auto handle = stage.start(kDraws);
    const auto other = stage.start(kDraws);
    stage.wait_for_event(handle, temporal::api::enums::v1::EVENT_TYPE_TIMER_FIRED);
    // The query may come before the task that follows the timer.
    Drawn first;
    while (first.size() < 7) first = must(handle.query<Drawn>("read"));
    EXPECT_EQ(first[3], "later");
    stage.kill_worker();
    stage.start_worker();
    EXPECT_EQ(query_after_kill<Drawn>(handle, "read"), first);
    must(handle.signal("finish"));
    must(other.signal("finish"));
    Drawn last = must(handle.result<Drawn>());
    ASSERT_EQ(last.size(), 10U);
    EXPECT_TRUE(std::equal(first.begin(), first.end(), last.begin()));
    const std::regex version_4{
        "[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"};
    for (const std::size_t i : {1U, 5U, 8U}) EXPECT_TRUE(std::regex_match(last[i], version_4));
    EXPECT_NE(last[0], last[4]);
    EXPECT_NE(last[1], last[5]);
    const Drawn others = must(other.result<Drawn>());
    EXPECT_NE(others[0], last[0]) << "another run draws anew";
    EXPECT_NE(others[1], last[1]);
  });
}

}  // namespace
}  // namespace tempora::behaviour
