// An entity: one workflow that is the account, for as long as the account lives. Updates change it
// and answer, a query looks at it, a signal closes it; its history never gets long, because it
// continues as new.
#include <cstdint>
#include <cstdio>
#include <must.hpp>
#include <string>
#include <tempora/definition.hpp>
#include <tempora/worker.hpp>

using namespace std::chrono_literals;
using tempora::ActivityContext;
using tempora::ApplicationError;
using tempora::Context;
using tempora::Task;

// All that outlives a run stands in one struct: it is the input of the next one.
struct Book {
  std::int64_t balance = 0;
  int changes = 0;  // over all runs
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Book, balance, changes)

struct Entry {
  std::int64_t amount = 0;
  std::string text;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Entry, amount, text)

const tempora::ActivityType<Entry, bool> kNotify{"notify", {.start_to_close = 10s}};
constexpr int kMostChangesInARun = 5;  // small, so that the example shows it; use hundreds

class Account {
 public:
  Account(Context&, const Book& book) : book_(book) {}

  Task<std::int64_t> run(Context& ctx, Book) {
    const auto done = [this] { return closed_ || changes_here_ >= kMostChangesInARun; };
    co_await ctx.wait_until(done);
    // Handlers that are under way end in this run; a message that comes later finds the next one.
    const auto drained = [&ctx] { return ctx.all_handlers_finished(); };
    co_await ctx.wait_until(drained);
    if (!closed_) ctx.continue_as_new(book_);
    co_return book_.balance;
  }

  // Rejected before anything is written to the history.
  void may_withdraw(const Entry& entry) const {
    if (entry.amount <= 0) throw ApplicationError{"amount must be above zero", "BadAmount"};
    if (entry.amount > book_.balance) throw ApplicationError{"not enough money", "NoFunds"};
  }
  Task<std::int64_t> withdraw(Context& ctx, Entry entry) {
    // Handlers interleave at every co_await: the mutex keeps two of them from spending the same
    // money.
    const tempora::MutexLock turn = co_await mutex_.lock(ctx);
    may_withdraw(entry);  // the balance may have changed while it waited
    const Entry booked{-entry.amount, entry.text};
    co_return co_await change(ctx, booked);
  }
  Task<std::int64_t> deposit(Context& ctx, Entry entry) {
    const tempora::MutexLock turn = co_await mutex_.lock(ctx);
    co_return co_await change(ctx, entry);
  }
  void close(Context&) { closed_ = true; }
  Book balance() const { return book_; }

 private:
  Task<std::int64_t> change(Context& ctx, Entry entry) {
    co_await ctx.execute(kNotify, entry);
    book_.balance += entry.amount;
    ++book_.changes;
    ++changes_here_;
    co_return book_.balance;
  }

  Book book_;
  tempora::Mutex mutex_;
  int changes_here_ = 0;
  bool closed_ = false;
};

const tempora::Definition<Account> kAccount{
    "Account",
    tempora::run(&Account::run),
    tempora::update("withdraw", &Account::withdraw, &Account::may_withdraw),
    tempora::update("deposit", &Account::deposit),
    tempora::signal("close", &Account::close),
    tempora::query("balance", &Account::balance)};

int main() {
  const tempora::Client client = examples::connect();
  tempora::Worker worker{client, {.task_queue = "account"}};
  worker.add(kAccount);
  worker.add(kNotify, [](ActivityContext&, const Entry&) { return true; });
  worker.start();

  const auto handle = examples::must(
      client.start(kAccount, {.id = examples::new_id("account"), .task_queue = "account"}, Book{}));
  // Whichever run is the latest: the account outlives its runs.
  const auto account = client.handle(handle.id());
  for (int i = 1; i <= 12; ++i)
    examples::must(account.update<std::int64_t>("deposit", {}, Entry{10, "pay day"}));
  examples::must(account.update<std::int64_t>("withdraw", {}, Entry{50, "rent"}));

  const auto refused = account.update<std::int64_t>("withdraw", {}, Entry{1'000, "yacht"});
  if (refused) return 1;
  std::printf("refused: %s\n", refused.error().failure->message().c_str());

  const Book book = examples::must(account.query<Book>("balance"));
  std::printf("balance %lld after %d changes\n", static_cast<long long>(book.balance),
              book.changes);
  examples::must(account.signal("close"));
  std::printf("closed with %lld\n",
              static_cast<long long>(examples::must(handle.result<std::int64_t>())));
}
