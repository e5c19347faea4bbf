#include "testing/random_schedule.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <numeric>

namespace tempora::testing {

using nlohmann::json;
using std::chrono::milliseconds;

namespace {

class Generator {
 public:
  explicit Generator(std::uint64_t seed) : random_(seed) {}

  int upto(int most) { return static_cast<int>(random_() % static_cast<std::uint64_t>(most + 1)); }
  bool sometimes() { return upto(3) == 0; }

  json steps(int depth, int signals, int updates) {
    json steps = json::array();
    const int count = 2 + upto(depth == 0 ? 8 : 3);
    for (int i = 0; i < count; ++i) steps.push_back(step(depth, signals, updates));
    return steps;
  }

 private:
  json step(int depth, int signals, int updates) {
    switch (upto(depth < 2 ? 20 : 15)) {
      case 0: return {{"do", "sleep"}, {"ms", upto(20)}};
      case 1: return {{"do", "activity"}, {"n", upto(100)}};
      case 2: return {{"do", "together"}, {"n", numbers()}};
      case 3: return {{"do", "local"}, {"n", upto(100)}};
      case 4: return {{"do", "in_turn"}, {"n", 1 + upto(4)}};
      case 5: return {{"do", "limited"}, {"n", 1 + upto(5)}};
      case 6: return {{"do", "cancel"}, {"what", hanging()}};
      case 7: return {{"do", "race"}, {"first", 1 + upto(20)}, {"second", 40 + upto(20)}};
      case 8: return {{"do", "side_effect"}};
      case 9: return {{"do", "chance"}};
      case 10: return {{"do", "patch"}, {"id", fmt::format("change-{}", upto(3))}};
      case 11: return {{"do", "undo"}, {"n", 1 + upto(3)}};
      case 12: return {{"do", "timed_wait"}, {"ms", 1 + upto(20)}, {"opens", sometimes()}};
      case 13: return {{"do", "refused_local"}};
      case 14: return {{"do", "nobody"}, {"cancel", sometimes()}};
      case 15: return {{"do", "cancel"}, {"what", "local"}};
      case 16:
        return {{"do", "child"},
                {"steps", steps(depth + 1, 0, 0)},
                {"signal", sometimes()},
                {"by_id", sometimes()}};
      case 17: return {{"do", "cancelled_child"}, {"by_id", sometimes()}};
      case 18:
        if (signals > 0) return {{"do", "signal"}, {"n", 1 + upto(signals - 1)}};
        return {{"do", "memo"}, {"n", upto(100)}};
      case 19:
        if (updates > 0) return {{"do", "update"}, {"n", 1 + upto(updates - 1)}};
        return {{"do", "memo"}, {"n", upto(100)}};
      default: return {{"do", "continue_as_new"}};
    }
  }
  std::string hanging() { return sometimes() ? "activity" : "timer"; }
  std::vector<int> numbers() {
    std::vector<int> numbers(static_cast<std::size_t>(1 + upto(4)));
    for (int& n : numbers) n = upto(100);
    return numbers;
  }

  std::mt19937_64 random_;
};

std::vector<std::string> model(const ScheduleState& start, const std::vector<int>& signals,
                               const std::vector<int>& puts);

std::string model_step(const json& step, const std::vector<int>& signals,
                       const std::vector<int>& puts) {
  const std::string what = step.at("do");
  if (what == "sleep") return "slept";
  if (what == "activity" || what == "local")
    return fmt::format("{} {}", what, 2 * step.at("n").get<int>());
  if (what == "together") {
    auto numbers = step.at("n").get<std::vector<int>>();
    for (int& n : numbers) n *= 2;
    return fmt::format("together {}", numbers);
  }
  if (what == "in_turn" || what == "undo") {
    std::vector<int> order(step.at("n").get<std::size_t>());
    std::iota(order.begin(), order.end(), 0);
    if (what == "undo") std::ranges::reverse(order);
    return fmt::format("{} {}", what, order);
  }
  if (what == "limited") return fmt::format("at most {}", std::min(2, step.at("n").get<int>()));
  if (what == "cancel") return "cancelled";
  if (what == "race") return "first";
  if (what == "timed_wait") return step.at("opens").get<bool>() ? "opened" : "timed out";
  if (what == "patch") return fmt::format("patched {}", step.at("id").get<std::string>());
  if (what == "memo") return fmt::format("memo {}", step.at("n").get<int>());
  if (what == "child") {
    ScheduleState state;
    state.steps = step.at("steps");
    const std::vector<int> knock{7};
    return fmt::format(
        "child {}", model(state, step.at("signal").get<bool>() ? knock : std::vector<int>{}, {}));
  }
  if (what == "signal")
    return fmt::format("signal {}", signals.at(step.at("n").get<std::size_t>() - 1));
  if (what == "update")
    return fmt::format("update {}", puts.at(step.at("n").get<std::size_t>() - 1));
  return what;
}

std::vector<std::string> model(const ScheduleState& start, const std::vector<int>& signals,
                               const std::vector<int>& puts) {
  std::vector<std::string> log;
  for (const json& step : start.steps) {
    if (step.at("do") != "continue_as_new") log.push_back(model_step(step, signals, puts));
  }
  log.push_back(fmt::format("signals {} updates {}", signals, puts));
  return log;
}

}  // namespace

RandomSchedule::RandomSchedule(std::uint64_t given) : seed(given) {
  Generator random{given};
  start.signals_expected = random.upto(5);
  start.updates_expected = random.upto(3);
  start.steps = random.steps(0, start.signals_expected, start.updates_expected);
  for (int i = 0; i < start.signals_expected; ++i)
    messages.push_back({milliseconds{random.upto(60)}, Message::Kind::kSignal, random.upto(100)});
  for (int i = 0; i < start.updates_expected; ++i)
    messages.push_back({milliseconds{random.upto(60)}, Message::Kind::kUpdate, random.upto(100)});
  for (int i = 0; i < 2; ++i)
    messages.push_back({milliseconds{random.upto(60)}, Message::Kind::kQuery, 0});
  if (random.sometimes()) {
    messages.push_back(
        {milliseconds{random.upto(60)}, Message::Kind::kRefusedUpdate, -1 - random.upto(9)});
  }
  if (random.upto(9) == 0)
    messages.push_back({milliseconds{random.upto(60)}, Message::Kind::kCancel, 0});
  std::multimap<milliseconds, Message> in_order;
  for (const Message& message : messages) in_order.emplace(message.at, message);
  messages.clear();
  for (const auto& [at, message] : in_order) {
    messages.push_back(message);
    if (messages.size() == 1) continue;
    Message& now = messages.back();
    const Message& before = messages[messages.size() - 2];
    const bool signals = now.kind == Message::Kind::kSignal && before.kind == now.kind;
    // One task sees all of a burst. What is sent at once by several may arrive in any order.
    now.with_previous = signals && random.upto(1) == 0;
    now.at = now.with_previous ? before.at : std::max(at, before.at + milliseconds{1});
  }
}

bool RandomSchedule::may_be_cancelled() const {
  return std::ranges::any_of(
      messages, [](const Message& message) { return message.kind == Message::Kind::kCancel; });
}

std::vector<std::string> RandomSchedule::expected() const {
  std::vector<int> signals;
  std::vector<int> puts;
  for (const Message& message : messages) {
    if (message.kind == Message::Kind::kSignal) signals.push_back(message.value);
    if (message.kind == Message::Kind::kUpdate) puts.push_back(message.value);
  }
  return model(start, signals, puts);
}

// --- the workflow -------------------------------------------------------------------------------

Task<std::vector<std::string>> ScheduledWorkflow::run(Context& ctx, ScheduleState state) {
  // What came in with the first task is here already: its handlers ran before.
  state.signals.insert(state.signals.end(), state_.signals.begin(), state_.signals.end());
  state.puts.insert(state.puts.end(), state_.puts.begin(), state_.puts.end());
  state_ = std::move(state);
  while (state_.next < state_.steps.size()) {
    const json now = state_.steps.at(state_.next++);
    if (now.at("do") == "continue_as_new") {
      co_await ctx.wait_until([&ctx] { return ctx.all_handlers_finished(); });
      ctx.continue_as_new(state_);
    }
    std::string line = co_await step(ctx, now);
    state_.log.push_back(std::move(line));
  }
  co_await ctx.wait_until([this, &ctx] {
    return ctx.all_handlers_finished() &&
           std::cmp_greater_equal(state_.signals.size(), state_.signals_expected) &&
           std::cmp_greater_equal(state_.puts.size(), state_.updates_expected);
  });
  state_.log.push_back(fmt::format("signals {} updates {}", state_.signals, state_.puts));
  co_return state_.log;
}

Task<void> ScheduledWorkflow::note(Context& ctx, int value) {
  state_.signals.push_back(value);
  if (value % 2 == 0) co_await ctx.sleep(milliseconds{value % 7});
}

void ScheduledWorkflow::may_put(const int& value) const {
  if (value < 0) throw ApplicationError{"no negative numbers", "Refused"};
}

// Updates that wait for each other at a mutex, with an activity inside it, end in their order.
Task<int> ScheduledWorkflow::put(Context& ctx, int value) {
  const MutexLock lock = co_await putting_.lock(ctx);
  const int doubled = co_await ctx.execute(kDouble, value);
  state_.puts.push_back(doubled / 2);
  co_return doubled;
}

Task<std::string> ScheduledWorkflow::step(Context& ctx, json step) {
  const std::string what = step.at("do");
  if (what == "sleep") {
    co_await ctx.sleep(milliseconds{step.at("ms").get<int>()});
    co_return "slept";
  }
  if (what == "activity" || what == "local") {
    const int n = step.at("n");
    auto future = what == "local" ? ctx.start_local(kDouble, n) : ctx.start(kDouble, n);
    const int result = co_await future;
    co_return fmt::format("{} {}", what, result);
  }
  if (what == "together") co_return co_await together(ctx, step.at("n").get<std::vector<int>>());
  if (what == "in_turn") co_return co_await in_turn(ctx, step.at("n"));
  if (what == "limited") co_return co_await limited(ctx, step.at("n"));
  if (what == "cancel") co_return co_await cancelled_scope(ctx, step.at("what"));
  if (what == "timed_wait") co_return co_await timed_wait(ctx, step.at("ms"), step.at("opens"));
  if (what == "refused_local") co_return co_await refused_local(ctx);
  if (what == "nobody") co_return co_await nobody(ctx, step.at("cancel"));
  if (what == "race") co_return co_await race(ctx, step.at("first"), step.at("second"));
  if (what == "side_effect") co_return co_await side_effect(ctx);
  if (what == "chance") co_return co_await chance(ctx);
  if (what == "undo") co_return co_await undo(ctx, step.at("n"));
  if (what == "child") co_return co_await child(ctx, step);
  if (what == "cancelled_child") co_return co_await cancelled_child(ctx, step.at("by_id"));
  if (what == "patch") {
    const std::string id = step.at("id");
    co_return ctx.patched(id) ? fmt::format("patched {}", id) : "not patched";
  }
  if (what == "memo") {
    ctx.upsert_memo("n", step.at("n").get<int>());
    co_return fmt::format("memo {}", *ctx.memo<int>("n"));
  }
  const std::size_t wanted = step.at("n");
  const bool signal = what == "signal";
  co_await ctx.wait_until(
      [this, signal, wanted] { return (signal ? state_.signals : state_.puts).size() >= wanted; });
  co_return fmt::format("{} {}", what, (signal ? state_.signals : state_.puts).at(wanted - 1));
}

Task<std::string> ScheduledWorkflow::together(Context& ctx, std::vector<int> numbers) {
  std::vector<Future<int>> futures;
  std::vector<AnyFuture> all;
  for (const int& n : numbers) {
    futures.push_back(n % 5 == 0 ? ctx.start_local(kDouble, n) : ctx.start(kDouble, n));
    all.emplace_back(futures.back());
  }
  co_await join(ctx, all);
  std::vector<int> results;
  for (Future<int>& future : futures) {
    const int result = co_await future;
    results.push_back(result);
  }
  co_return fmt::format("together {}", results);
}

Task<void> ScheduledWorkflow::take_turn(Context& ctx, std::shared_ptr<Turns> turns, int index) {
  const MutexLock lock = co_await turns->mutex.lock(ctx);
  if (index % 2 == 0) co_await ctx.sleep(milliseconds{1});
  turns->order.push_back(index);
}

Task<std::string> ScheduledWorkflow::in_turn(Context& ctx, int count) {
  const auto turns = std::make_shared<Turns>();
  std::vector<Handle<void>> tasks;
  for (int i = 0; i < count; ++i) tasks.push_back(ctx.spawn(take_turn(ctx, turns, i)));
  for (Handle<void>& task : tasks) co_await task;
  co_return fmt::format("in_turn {}", turns->order);
}

Task<void> ScheduledWorkflow::take_place(Context& ctx, std::shared_ptr<Places> places) {
  const SemaphorePermit permit = co_await places->free.acquire(ctx);
  places->most = std::max(places->most, ++places->inside);
  co_await ctx.sleep(milliseconds{1 + static_cast<int>(ctx.random() % 3)});
  --places->inside;
}

Task<std::string> ScheduledWorkflow::limited(Context& ctx, int count) {
  const auto places = std::make_shared<Places>();
  std::vector<Handle<void>> tasks;
  for (int i = 0; i < count; ++i) tasks.push_back(ctx.spawn(take_place(ctx, places)));
  for (Handle<void>& task : tasks) co_await task;
  co_return fmt::format("at most {}", places->most);
}

Task<std::string> ScheduledWorkflow::cancelled_scope(Context& ctx, std::string what) {
  const CancellationScope scope = ctx.new_scope();
  const std::function<Task<void>()> wait = [&ctx, what]() -> Task<void> {
    if (what == "activity") {
      co_await ctx.execute(kHang);
    } else if (what == "local") {  // in the pause before its next attempt
      const bool for_good = false;
      LocalActivityOptions options{.local_retry_threshold = milliseconds{1}};
      options.retry = RetryPolicy{.initial_interval = std::chrono::hours{1}};
      co_await ctx.start_local(kRefuse, for_good, options);
    } else {
      co_await ctx.sleep(std::chrono::hours{1});
    }
  };
  auto waiting = ctx.spawn(scope.run(wait));
  co_await ctx.sleep(milliseconds{2});
  scope.cancel();
  bool cancelled = false;
  try {
    co_await waiting;
  } catch (const Failure&) {
    cancelled = true;
  }
  co_return cancelled ? "cancelled" : "not cancelled";
}

Task<void> ScheduledWorkflow::open_later(Context& ctx, std::shared_ptr<bool> open) {
  co_await ctx.sleep(milliseconds{1});
  *open = true;
}

Task<std::string> ScheduledWorkflow::timed_wait(Context& ctx, int most_ms, bool opens) {
  const auto open = std::make_shared<bool>(false);
  if (opens) (void)ctx.spawn(open_later(ctx, open));
  const Duration most = opens ? Duration{std::chrono::hours{1}} : milliseconds{most_ms};
  const bool opened = co_await ctx.wait_until([open] { return *open; }, most);
  co_return opened ? "opened" : "timed out";
}

Task<std::string> ScheduledWorkflow::refused_local(Context& ctx) {
  const bool for_good = true;
  try {
    co_await ctx.start_local(kRefuse, for_good);
  } catch (const ActivityError& failure) {
    const ApplicationError* error = find_application_error(failure);
    if (error == nullptr || error->type() != "Refused") throw;
    co_return "refused_local";
  }
  co_return "not refused";
}

Task<std::string> ScheduledWorkflow::nobody(Context& ctx, bool cancel) {
  const ExternalWorkflow other = ctx.external("there is nobody of this id");
  try {
    if (cancel) {
      co_await other.cancel();
    } else {
      co_await other.signal("note", 1);
    }
  } catch (const ApplicationError&) {
    co_return "nobody";
  }
  co_return "somebody";
}

Task<std::string> ScheduledWorkflow::race(Context& ctx, int first, int second) {
  auto slow = ctx.timer(milliseconds{second});
  auto quick = ctx.timer(milliseconds{first});
  const std::vector<AnyFuture> both{quick, slow};
  const std::size_t winner = co_await select(ctx, both);
  slow.cancel();
  co_return winner == 0 ? "first" : "second";
}

// What comes out decides which commands follow: a replay that drew anew would differ.
Task<std::string> ScheduledWorkflow::side_effect(Context& ctx) {
  static std::atomic<int> drawn{0};
  const int value = ctx.side_effect([] { return ++drawn; });
  if (value % 2 == 0) co_await ctx.sleep(milliseconds{1});
  co_return "side_effect";
}

Task<std::string> ScheduledWorkflow::chance(Context& ctx) {
  const int number = static_cast<int>(ctx.random() % 3);
  if (number == 0) co_await ctx.sleep(milliseconds{1});
  if (number == 1) {
    const int doubled = co_await ctx.execute(kDouble, number);
    if (doubled != 2) co_return "wrong";
  }
  co_return "chance";
}

Task<std::string> ScheduledWorkflow::undo(Context& ctx, int count) {
  Saga saga{ctx};
  std::vector<int> undone;
  for (int i = 0; i < count; ++i) {
    saga.on_failure([&ctx, &undone, i]() -> Task<void> {
      const int doubled = co_await ctx.execute(kDouble, i);
      undone.push_back(doubled / 2);
    });
  }
  co_await saga.unwind();
  co_return fmt::format("undo {}", undone);
}

Task<std::string> ScheduledWorkflow::child(Context& ctx, json step) {
  ScheduleState state;
  state.steps = step.at("steps");
  const bool knock = step.at("signal");
  state.signals_expected = knock ? 1 : 0;
  auto child = ctx.start_child(scheduled_workflow(), {}, state);
  if (knock) {
    co_await child.started();
    const bool by_id = step.at("by_id");
    co_await (by_id ? ctx.external(child.id()).signal("note", 7) : child.signal("note", 7));
  }
  const std::vector<std::string> log = co_await child.result();
  co_return fmt::format("child {}", log);
}

Task<std::string> ScheduledWorkflow::cancelled_child(Context& ctx, bool by_id) {
  ScheduleState state;
  state.steps = json::array();
  state.signals_expected = 1;  // it never comes
  auto child = ctx.start_child(scheduled_workflow(), {}, state);
  co_await child.started();
  if (by_id) {
    co_await ctx.external(child.id()).cancel();
  } else {
    child.cancel();
  }
  bool failed = false;
  try {
    co_await child.result();
  } catch (const Failure&) {
    failed = true;
  }
  co_return failed ? "cancelled_child" : "not cancelled";
}

const Definition<ScheduledWorkflow>& scheduled_workflow() {
  static const Definition<ScheduledWorkflow> kDefinition{
      "ScheduledWorkflow", tempora::run(&ScheduledWorkflow::run),
      signal("note", &ScheduledWorkflow::note),
      update("put", &ScheduledWorkflow::put, &ScheduledWorkflow::may_put),
      query("log", &ScheduledWorkflow::log)};
  return kDefinition;
}

}  // namespace tempora::testing
