// What each operation asks of the ledger once it has the claim: pure, so that a plan says the very
// moves that the workflow makes.
#pragma once

#include "order.hpp"

#include <string>
#include <string_view>
#include <vector>

namespace addrflow::workflows {

struct Move {
  v1::TransitionRequest request;
  std::string message;  // what the caller is told beside the outcome; empty: nothing
};

v1::TransitionRequest move_of(const Order& order, const v1::Claim& claim, std::string_view state);

// Throws a refusal where the order does not say enough for the service that was claimed.
Move first_move(const Order& order, const v1::ClaimReply& claimed);

// Of one family, as an allocate asks for it.
v1::ReserveRequest reservation_of(const Order& order, const v1::Claim& claim,
                                  const std::string& family);

// What is meant and what is done may differ: a family that is there already is left alone.
void take_families(Order& order, const v1::ClaimReply& claimed);

}  // namespace addrflow::workflows
