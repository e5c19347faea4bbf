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
  Generator(std::uint64_t seed, std::string endpoint)
      : random_(seed), endpoint_(std::move(endpoint)) {}

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
    if (depth < 2 && sometimes()) return among_others(depth, signals, updates);
    switch (upto(2)) {
      case 0: return work();
      case 1: return wait();
      default: return record();
    }
  }
  // Children and messages.
  json among_others(int depth, int signals, int updates) {
    switch (upto(7)) {
      case 0:
        return {{"do", "child"},
                {"steps", steps(depth + 1, 0, 0)},
                {"signal", sometimes()},
                {"by_id", sometimes()}};
      case 1: return {{"do", "cancelled_child"}, {"by_id", sometimes()}};
      case 2: return {{"do", "failed_child"}, {"retried", sometimes()}};
      case 3: return {{"do", "taken_id"}, {"ended", sometimes()}};
      case 4:
        if (signals > 0) return {{"do", "signal"}, {"n", 1 + upto(signals - 1)}};
        return {{"do", "nobody"}, {"cancel", sometimes()}};
      case 5:
        if (updates > 0) return {{"do", "update"}, {"n", 1 + upto(updates - 1)}};
        return {{"do", "nobody"}, {"cancel", sometimes()}};
      case 6: return {{"do", "cancelled_nexus"}, {"endpoint", endpoint_}};
      default: return {{"do", "continue_as_new"}};
    }
  }
  // Activities of all kinds, and an operation.
  json work() {
    switch (upto(8)) {
      case 0: return {{"do", "activity"}, {"n", upto(100)}};
      case 1: return {{"do", "together"}, {"n", numbers()}};
      case 2: return {{"do", "local"}, {"n", upto(100)}};
      case 3: return {{"do", "limited"}, {"n", 1 + upto(5)}};
      case 4: return {{"do", "undo"}, {"n", 1 + upto(3)}};
      case 5: return {{"do", "refused"}, {"local", sometimes()}};
      case 6: return {{"do", "attempts"}, {"n", 1 + upto(3)}, {"local", upto(1) == 0}};
      case 7: return {{"do", "elsewhere"}, {"n", upto(100) - 25}};
      default: return {{"do", "nexus"}, {"endpoint", endpoint_}, {"n", upto(100)}};
    }
  }
  // Timers, scopes and whoever waits for them.
  json wait() {
    switch (upto(6)) {
      case 0: return {{"do", "sleep"}, {"ms", upto(20)}};
      case 1: return {{"do", "in_turn"}, {"n", 1 + upto(4)}};
      case 2: return {{"do", "cancel"}, {"what", hanging()}};
      case 3: return {{"do", "cancel"}, {"what", "local"}};
      case 4: return {{"do", "race"}, {"first", 1 + upto(20)}, {"second", 40 + upto(20)}};
      case 5: return {{"do", "timed_wait"}, {"ms", 1 + upto(20)}, {"opens", sometimes()}};
      default: return {{"do", "shielded"}};
    }
  }
  // What only leaves its mark in the history.
  json record() {
    switch (upto(6)) {
      case 0: return {{"do", "side_effect"}};
      case 1: return {{"do", "chance"}};
      case 2: return {{"do", "patch"}, {"id", change()}};
      case 3: return {{"do", "deprecate"}, {"id", change()}};
      case 4: return {{"do", "memo"}, {"n", upto(100)}};
      case 5: return {{"do", "attributes"}, {"n", upto(100)}, {"unset", sometimes()}};
      default: return {{"do", "nobody"}, {"cancel", sometimes()}};
    }
  }
  std::string hanging() { return sometimes() ? "activity" : "timer"; }
  std::string change() { return fmt::format("change-{}", upto(3)); }
  std::vector<int> numbers() {
    std::vector<int> numbers(static_cast<std::size_t>(1 + upto(4)));
    for (int& n : numbers) n = upto(100);
    return numbers;
  }

  std::mt19937_64 random_;
  std::string endpoint_;
};

// What others can read of a workflow; it outlives continue-as-new. Less than zero: nothing.
struct Visible {
  int memo = -1;
  int number = -1;
  std::string text() const { return fmt::format("memo {} number {}", memo, number); }
};

std::vector<std::string> model(const ScheduleState& start, const std::vector<int>& signals,
                               const std::vector<int>& puts);

std::string model_record(const json& step, Visible& visible) {
  const std::string what = step.at("do");
  if (what == "patch") return fmt::format("patched {}", step.at("id").get<std::string>());
  if (what == "deprecate") return fmt::format("deprecated {}", step.at("id").get<std::string>());
  const int n = step.at("n");
  if (what == "memo") {
    visible.memo = n;
    return fmt::format("memo {}", n);
  }
  visible.number = step.at("unset").get<bool>() ? -1 : n;
  return fmt::format("attributes {} word {}", visible.number, n);
}

bool leaves_a_record(const std::string& what) {
  return what == "patch" || what == "deprecate" || what == "memo" || what == "attributes";
}

std::string model_step(const json& step, const std::vector<int>& signals,
                       const std::vector<int>& puts, Visible& visible) {
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
  if (what == "attempts") return fmt::format("attempts {}", step.at("n").get<int>());
  if (what == "nexus") return fmt::format("nexus {}", 3 * step.at("n").get<int>());
  if (what == "elsewhere") {
    const int n = step.at("n");
    return n < 0 ? "elsewhere refused" : fmt::format("elsewhere {}", 2 * n);
  }
  if (leaves_a_record(what)) return model_record(step, visible);
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
  Visible visible;
  for (const json& step : start.steps) {
    if (step.at("do") != "continue_as_new") log.push_back(model_step(step, signals, puts, visible));
  }
  log.push_back(fmt::format("signals {} updates {}", signals, puts));
  log.push_back(visible.text());
  return log;
}

}  // namespace

RandomSchedule::RandomSchedule(std::uint64_t given, const std::string& endpoint) : seed(given) {
  Generator random{given, endpoint};
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
  const auto first = std::ranges::find(messages, Message::Kind::kSignal, &Message::kind);
  if (first == messages.end() || !random.sometimes()) return;
  first->with_start = true;
  // Nobody sends it, so nothing can be sent with it.
  if (const auto second = std::next(first); second != messages.end()) second->with_previous = false;
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

namespace {

constexpr const char* kMemo = "n";
constexpr const char* kNumber = "Number";

bool is_refusal(const Failure& failure) {
  const ApplicationError* error = find_application_error(failure);
  return error != nullptr && error->type() == "Refused";
}

}  // namespace

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
  const Visible visible{.memo = ctx.memo<int>(kMemo).value_or(-1),
                        .number = ctx.info().search_attributes.get<int>(kNumber).value_or(-1)};
  state_.log.push_back(visible.text());
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
  if (what == "refused") co_return co_await refused(ctx, step.at("local"));
  if (what == "attempts") co_return co_await attempts(ctx, step.at("n"), step.at("local"));
  if (what == "elsewhere") co_return co_await elsewhere(ctx, step.at("n"));
  if (what == "nexus") co_return co_await nexus(ctx, step.at("endpoint"), step.at("n"));
  if (what == "cancelled_nexus") co_return co_await cancelled_nexus(ctx, step.at("endpoint"));
  if (what == "shielded") co_return co_await shielded(ctx);
  if (what == "nobody") co_return co_await nobody(ctx, step.at("cancel"));
  if (what == "race") co_return co_await race(ctx, step.at("first"), step.at("second"));
  if (what == "side_effect") co_return co_await side_effect(ctx);
  if (what == "chance") co_return co_await chance(ctx);
  if (what == "undo") co_return co_await undo(ctx, step.at("n"));
  if (what == "child") co_return co_await child(ctx, step);
  if (what == "cancelled_child") co_return co_await cancelled_child(ctx, step.at("by_id"));
  if (what == "failed_child") co_return co_await failed_child(ctx, step.at("retried"));
  if (what == "taken_id") co_return co_await taken_id(ctx, step.at("ended"));
  if (what == "fail") throw ApplicationError{"no", "Refused"};
  if (leaves_a_record(what)) co_return record(ctx, step);
  const std::size_t wanted = step.at("n");
  const bool signal = what == "signal";
  co_await ctx.wait_until(
      [this, signal, wanted] { return (signal ? state_.signals : state_.puts).size() >= wanted; });
  co_return fmt::format("{} {}", what, (signal ? state_.signals : state_.puts).at(wanted - 1));
}

std::string ScheduledWorkflow::record(Context& ctx, const json& step) {
  const std::string what = step.at("do");
  if (what == "patch" || what == "deprecate") {
    const std::string id = step.at("id");
    if (what == "deprecate") ctx.deprecate_patch(id);
    if (!ctx.patched(id)) return "not patched";
    return fmt::format("{} {}", what == "patch" ? "patched" : "deprecated", id);
  }
  const int n = step.at("n");
  if (what == "memo") {
    ctx.upsert_memo(kMemo, n);
    return fmt::format("memo {}", ctx.memo<int>(kMemo).value_or(-1));
  }
  SearchAttributes changes;
  changes.set_int(kNumber, n).set_keyword("Word", fmt::format("word {}", n));
  changes.set_keyword_list("Words", {"one", "two"}).set_text("Text", "some words");
  changes.set_bool("Even", n % 2 == 0).set_double("Half", n / 2.0).set_datetime("At", ctx.now());
  if (step.at("unset").get<bool>()) changes.unset(kNumber);
  ctx.upsert_search_attributes(changes);
  const SearchAttributes& known = ctx.info().search_attributes;
  return fmt::format("attributes {} {}", known.get<int>(kNumber).value_or(-1),
                     known.get<std::string>("Word").value_or("nothing"));
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

Task<void> ScheduledWorkflow::open_shielded(Context& ctx, std::shared_ptr<bool> open) {
  const auto opening = [this, &ctx, open] { return open_later(ctx, open); };
  co_await ctx.shielded(opening);
}

// What is shielded ends, although the scope around it is cancelled.
Task<std::string> ScheduledWorkflow::shielded(Context& ctx) {
  const CancellationScope scope = ctx.new_scope();
  const auto open = std::make_shared<bool>(false);
  const auto work = [this, &ctx, open] { return open_shielded(ctx, open); };
  auto working = ctx.spawn(scope.run(work));
  scope.cancel();
  co_await working;
  co_return *open ? "shielded" : "not shielded";
}

Task<std::string> ScheduledWorkflow::refused(Context& ctx, bool local) {
  const bool for_good = true;
  try {
    auto future = local ? ctx.start_local(kRefuse, for_good) : ctx.start(kRefuse, for_good);
    co_await future;
  } catch (const ActivityError& failure) {
    if (!is_refusal(failure)) throw;
    co_return "refused";
  }
  co_return "not refused";
}

Task<std::string> ScheduledWorkflow::attempts(Context& ctx, int count, bool local) {
  auto future = local ? ctx.start_local(kPersist, count) : ctx.start(kPersist, count);
  const int reached = co_await future;
  co_return fmt::format("attempts {}", reached);
}

Task<std::string> ScheduledWorkflow::elsewhere(Context& ctx, int n) {
  auto future = ctx.start(kElsewhere, n);
  try {
    const int doubled = co_await future;
    co_return fmt::format("elsewhere {}", doubled);
  } catch (const ActivityError& failure) {
    if (!is_refusal(failure)) throw;
  }
  co_return "elsewhere refused";
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

Task<std::string> ScheduledWorkflow::nexus(Context& ctx, std::string endpoint, int n) {
  const auto call = ctx.nexus(std::move(endpoint)).start(kTriple, n);
  const int tripled = co_await call.result();
  co_return fmt::format("nexus {}", tripled);
}

Task<std::string> ScheduledWorkflow::cancelled_nexus(Context& ctx, std::string endpoint) {
  const std::string id = ctx.uuid();
  const auto call = ctx.nexus(std::move(endpoint)).start(kLasting, id);
  co_await call.started();
  call.cancel();
  try {
    co_await call.result();
  } catch (const NexusOperationError& failure) {
    if (!is_cancellation(failure)) throw;
    co_return "cancelled_nexus";
  }
  co_return "not cancelled";
}

Task<std::string> ScheduledWorkflow::failed_child(Context& ctx, bool retried) {
  json fails = json::object();
  fails["do"] = "fail";
  ScheduleState state;
  state.steps = json::array();
  state.steps.push_back(fails);
  ChildWorkflowOptions options;
  if (retried)
    options.retry = RetryPolicy{.initial_interval = milliseconds{1}, .maximum_attempts = 2};
  auto child = ctx.start_child(scheduled_workflow(), options, state);
  try {
    co_await child.result();
  } catch (const ChildWorkflowError& failure) {
    if (!is_refusal(failure)) throw;
    co_return "failed_child";
  }
  co_return "not failed";
}

// The second child of an id is refused: the first one runs, or has ended and there may be one only.
Task<std::string> ScheduledWorkflow::taken_id(Context& ctx, bool ended) {
  ScheduleState state;
  state.steps = json::array();
  state.signals_expected = ended ? 0 : 1;
  ChildWorkflowOptions options;
  options.id = ctx.uuid();
  if (ended) options.reuse = IdReusePolicy::kRejectDuplicate;
  auto first = ctx.start_child(scheduled_workflow(), options, state);
  co_await first.started();
  if (ended) co_await first.result();
  auto second = ctx.start_child(scheduled_workflow(), options, state);
  bool refused = false;
  try {
    co_await second.result();
  } catch (const ChildWorkflowError& failure) {
    if (!failure.already_started()) throw;
    refused = true;
  }
  if (!ended) {
    co_await first.signal("note", 7);
    co_await first.result();
  }
  co_return refused ? "taken_id" : "not refused";
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
