// The smallest whole thing: an activity, a workflow that calls it, a worker that runs both, and a
// client that asks.
#include <cstdio>
#include <must.hpp>
#include <string>
#include <tempora/definition.hpp>
#include <tempora/worker.hpp>

using namespace std::chrono_literals;
using tempora::ActivityContext;
using tempora::Context;
using tempora::Task;

// An activity touches the world. It is named once, with its types and its limits.
const tempora::ActivityType<std::string, std::string> kGreet{"greet", {.start_to_close = 10s}};

std::string greet(ActivityContext&, const std::string& name) { return "Hello, " + name + "!"; }

// A workflow is a class; `run` is a coroutine. It survives crashes of the worker, because what it
// awaited is in its history on the server and is answered from there when it runs again.
struct Greeting {
  Task<std::string> run(Context& ctx, std::string name) {
    std::string greeting = co_await ctx.execute(kGreet, name);
    co_await ctx.sleep(100ms);  // a timer on the server: it may as well be a month
    co_return greeting;
  }
};

// The table that names the class's members for the wire.
const tempora::Definition<Greeting> kGreeting{"Greeting", tempora::run(&Greeting::run)};

int main() {
  const tempora::Client client = examples::connect();

  tempora::Worker worker{client, {.task_queue = "hello"}};
  worker.add(kGreeting);
  worker.add(kGreet, greet);
  worker.start();

  const auto handle = examples::must(client.start(
      kGreeting, {.id = examples::new_id("hello"), .task_queue = "hello"}, std::string{"world"}));
  const auto said = examples::must(handle.result<std::string>());
  std::printf("%s\n", said.c_str());
}
