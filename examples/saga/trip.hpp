// Several steps, all or none: when the last one fails, those before are undone, newest first.
#pragma once

#include <string>
#include <tempora/definition.hpp>
#include <tempora/saga.hpp>
#include <vector>

// Values travel as JSON; nlohmann's macro says how.
struct Booking {
  std::string trip;
  std::string what;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Booking, trip, what)

inline const tempora::ActivityType<Booking, std::string> kBook{
    "book", {.start_to_close = std::chrono::seconds{10}}};
inline const tempora::ActivityType<Booking, tempora::Void> kCancel{
    "cancel", {.start_to_close = std::chrono::seconds{10}}};

struct Trip {
  tempora::Task<std::vector<std::string>> run(tempora::Context& ctx, std::string trip) {
    tempora::Saga saga{ctx};
    try {
      std::vector<std::string> booked;
      for (const char* what : {"flight", "hotel", "car"}) {
        const Booking wanted{trip, what};
        saga.on_failure(kCancel, wanted);  // before we ask: a lost answer must be undone too
        booked.push_back(co_await ctx.execute(kBook, wanted));
      }
      co_return booked;
    } catch (const tempora::Failure&) {
      saga.remember();
    }
    co_await saga.unwind();
    saga.rethrow();
  }
};
inline const tempora::Definition<Trip> kTrip{"Trip", tempora::run(&Trip::run)};
