// Several steps, all or none: when the last one fails, those before are undone, newest first.
#include <cstdio>
#include <must.hpp>
#include <mutex>
#include <string>
#include <tempora/worker.hpp>
#include <vector>

#include "trip.hpp"

using tempora::ActivityContext;
using tempora::ApplicationError;

// What the outer world would be.
struct World {
  std::string book(const Booking& wanted) {
    if (wanted.what == "car")  // not worth a retry: there will be no car tomorrow either
      throw ApplicationError{"no car is left", "SoldOut", true};
    say("booked " + wanted.what);
    return wanted.what + " of " + wanted.trip;
  }
  void cancel(const Booking& wanted) { say("cancelled " + wanted.what); }
  void say(const std::string& line) {
    const std::lock_guard lock{mutex};
    std::printf("%s\n", line.c_str());
  }
  std::mutex mutex;
};

int main() {
  const tempora::Client client = examples::connect();
  World world;
  tempora::Worker worker{client, {.task_queue = "saga"}};
  worker.add(kTrip);
  worker.add(kBook, [&](ActivityContext&, const Booking& wanted) { return world.book(wanted); });
  worker.add(kCancel, [&](ActivityContext&, const Booking& wanted) {
    world.cancel(wanted);
    return tempora::Void{};
  });
  worker.start();

  const auto handle = examples::must(client.start(
      kTrip, {.id = examples::new_id("trip"), .task_queue = "saga"}, std::string{"Lisbon"}));
  const auto booked = handle.result<std::vector<std::string>>();
  if (booked) return 1;
  const auto* why = tempora::find_application_error(*booked.error().failure);
  std::printf("the trip failed: %s\n", why == nullptr ? "?" : why->message().c_str());
}
