// How far one operation of a line is: what the query `progress` of a service's workflow shows.
#pragma once

#include "order.hpp"
#include "pursuit.hpp"

#include <addrflow/v1/operators.pb.h>
#include <string>
#include <string_view>
#include <tempora/time.hpp>
#include <vector>

namespace addrflow::workflows {

// The newest operation of a run: its own steps, and after them its effects, which go on when it has
// its answer.
class OperationProgress {
 public:
  void begin(const Order& order, tempora::TimePoint now);
  // The step before it is done.
  void step(std::string_view name, tempora::TimePoint now);
  void undoing(std::string_view why, tempora::TimePoint now);
  void end(bool success, std::string_view why, tempora::TimePoint now);
  void pursues(std::shared_ptr<const Pursuit> pursuit);

  v1::CompositionProgress shown() const;

 private:
  void close_step(std::string_view status, std::string_view why, tempora::TimePoint now);

  v1::CompositionProgress own_;
  std::vector<std::shared_ptr<const Pursuit>> pursuits_;
};

}  // namespace addrflow::workflows
