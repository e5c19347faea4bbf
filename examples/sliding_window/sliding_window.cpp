// A batch of any size, some at a time: a new item starts as soon as one ends, and the run continues
// as new before its history gets long.
#include <cstdio>
#include <must.hpp>
#include <string>
#include <tempora/definition.hpp>
#include <tempora/worker.hpp>
#include <vector>

using namespace std::chrono_literals;
using tempora::ActivityContext;
using tempora::AnyFuture;
using tempora::Context;
using tempora::Future;
using tempora::Task;

struct Progress {
  int next = 0;  // the first item that has not been started
  int end = 0;   // one past the last item
  long sum = 0;  // of the results so far
  int runs = 1;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Progress, next, end, sum, runs)

const tempora::ActivityType<int, int> kSquare{"square", {.start_to_close = 10s}};
constexpr std::size_t kWindow = 4;
constexpr int kItemsInARun = 20;

struct Batch {
  Task<Progress> run(Context& ctx, Progress progress) {
    const int stop = std::min(progress.end, progress.next + kItemsInARun);
    std::vector<Future<int>> window;
    while (progress.next < stop || !window.empty()) {
      while (progress.next < stop && window.size() < kWindow) {
        const int item = progress.next++;
        window.push_back(ctx.start(kSquare, item));
      }
      const std::vector<AnyFuture> waiting(window.begin(), window.end());
      const std::size_t first = co_await tempora::select(ctx, waiting);
      progress.sum += co_await window[first];
      window.erase(window.begin() + static_cast<std::ptrdiff_t>(first));
    }
    if (progress.next < progress.end) {
      ++progress.runs;
      ctx.continue_as_new(progress);
    }
    co_return progress;
  }
};
const tempora::Definition<Batch> kBatch{"Batch", tempora::run(&Batch::run)};

int main() {
  const tempora::Client client = examples::connect();
  tempora::Worker worker{client, {.task_queue = "sliding-window"}};
  worker.add(kBatch);
  worker.add(kSquare, [](ActivityContext&, const int& item) { return item * item; });
  worker.start();

  const auto handle = examples::must(
      client.start(kBatch, {.id = examples::new_id("batch"), .task_queue = "sliding-window"},
                   Progress{.end = 50}));
  const auto done = examples::must(handle.result<Progress>());
  std::printf("%d items, sum %ld, %d runs\n", done.next, done.sum, done.runs);
}
