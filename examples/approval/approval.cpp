// A human in the loop: the workflow asks, waits for a person as long as it takes, reminds, and
// decides by itself when nobody answers in time.
#include <cstdio>
#include <must.hpp>
#include <optional>
#include <string>
#include <tempora/definition.hpp>
#include <tempora/worker.hpp>

using namespace std::chrono_literals;
using tempora::ActivityContext;
using tempora::Context;
using tempora::Task;

struct Expense {
  std::string who;
  int amount = 0;
  int reminder_ms = 0;  // in life: days
  int deadline_ms = 0;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Expense, who, amount, reminder_ms, deadline_ms)

struct Decision {
  bool approved = false;
  std::string by;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Decision, approved, by)

const tempora::ActivityType<std::string, bool> kMail{"mail", {.start_to_close = 10s}};

class Approval {
 public:
  Task<std::string> run(Context& ctx, Expense expense) {
    const std::string question =
        "may " + expense.who + " spend " + std::to_string(expense.amount) + "?";
    co_await ctx.execute(kMail, question);
    const auto decided = [this] { return decision_.has_value(); };
    status_ = "asked";
    if (!co_await ctx.wait_until(decided, std::chrono::milliseconds{expense.reminder_ms})) {
      const std::string reminder = "reminder: " + question;
      co_await ctx.execute(kMail, reminder);
      status_ = "reminded";
      const std::chrono::milliseconds left{expense.deadline_ms - expense.reminder_ms};
      co_await ctx.wait_until(decided, left);
    }
    status_ = "decided";
    if (!decision_) co_return "refused: nobody answered";
    co_return (decision_->approved ? "approved by " : "refused by ") + decision_->by;
  }
  void decide(Context&, Decision decision) {
    if (!decision_) decision_ = decision;  // the first word counts
  }
  std::string status() const { return status_; }

 private:
  std::optional<Decision> decision_;
  std::string status_ = "new";
};
const tempora::Definition<Approval> kApproval{"Approval", tempora::run(&Approval::run),
                                              tempora::signal("decide", &Approval::decide),
                                              tempora::query("status", &Approval::status)};

int main() {
  const tempora::Client client = examples::connect();
  tempora::Worker worker{client, {.task_queue = "approval"}};
  worker.add(kApproval);
  worker.add(kMail, [](ActivityContext&, const std::string& text) {
    std::printf("mail: %s\n", text.c_str());
    return true;
  });
  worker.start();

  const auto start = [&](const Expense& expense) {
    return examples::must(client.start(
        kApproval, {.id = examples::new_id("approval"), .task_queue = "approval"}, expense));
  };
  const auto answered = start({"Ada", 300, 60'000, 120'000});
  const auto ignored = start({"Bob", 9'000, 200, 400});
  // Any client in any language, or Temporal's own command line, may be the person.
  examples::must(answered.signal(kApproval, &Approval::decide, Decision{true, "Grace"}));
  std::printf("Ada: %s\n", examples::must(answered.result<std::string>()).c_str());
  std::printf("Bob: %s\n", examples::must(ignored.result<std::string>()).c_str());
  std::printf("Bob's request is %s\n",
              examples::must(ignored.query<std::string>("status")).c_str());
}
