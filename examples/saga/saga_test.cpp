// The saga of trip.hpp on the testing service: no server, no waiting. Any test framework would do;
// this needs none.
#include <cstdio>
#include <cstdlib>
#include <string>
#include <tempora/testing/environment.hpp>
#include <vector>

#include "trip.hpp"

namespace {

using namespace std::chrono_literals;
using tempora::ApplicationError;
using tempora::testing::Environment;

void expect(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "not so: %s\n", what);
  std::exit(1);
}

// Fakes that note what is booked.
void add_trip(Environment& env, std::vector<std::string>& booked) {
  env.add(kTrip);
  env.add(kBook, [&](const Booking& wanted) {
    booked.push_back(wanted.what);
    return wanted.what + " of " + wanted.trip;
  });
  env.add(kCancel, [&](const Booking& wanted) {
    std::erase(booked, wanted.what);
    return tempora::Void{};
  });
}

void a_trip_is_booked_although_the_hotel_answers_late() {
  Environment env;
  std::vector<std::string> booked;
  add_trip(env, booked);
  env.time_out(kBook, 2);  // two attempts hang for their 10 seconds, the third one answers
  const auto result =
      env.start(kTrip, "trip", std::string{"Lisbon"}).result<std::vector<std::string>>();
  expect(result.has_value() && result->size() == 3, "everything is booked");
  expect(env.elapsed() == 10s + 1s + 10s + 2s, "two time-outs and two pauses have passed");
}

void a_sold_out_car_undoes_the_rest_under_every_seed() {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    Environment env{{.seed = seed, .evict_rate = 0.5, .activity_failure_rate = 0.2}};
    std::vector<std::string> booked;
    add_trip(env, booked);
    env.inject([](const tempora::testing::ActivityAttempt& attempt)
                   -> std::optional<tempora::testing::ActivityFault> {
      if (attempt.type != "book" || attempt.activity_id != "3") return std::nullopt;
      return tempora::testing::ActivityFault::fails(
          ApplicationError{"no car is left", "SoldOut", true});
    });
    const auto result =
        env.start(kTrip, "trip", std::string{"Lisbon"}).result<std::vector<std::string>>();
    expect(!result.has_value(), "the trip fails");
    expect(booked.empty(), "nothing stays booked");
    expect(env.replay("trip").has_value(), "today's code replays the history");
  }
}

}  // namespace

int main() {
  a_trip_is_booked_although_the_hotel_answers_late();
  a_sold_out_car_undoes_the_rest_under_every_seed();
  std::printf("the saga holds\n");
}
