// Which functions run which activity types of one worker.
#pragma once

#include <string>
#include <string_view>
#include <tempora/activity.hpp>
#include <unordered_map>
#include <vector>

namespace tempora::activity {

class ActivityRegistry {
 public:
  // Throws `std::logic_error` if the type is registered already.
  void add(std::string type, ActivityFunction function);
  // Null if nobody has registered the type.
  const ActivityFunction* find(const std::string& type) const;
  bool empty() const { return functions_.empty(); }
  std::vector<std::string> types() const;  // sorted

 private:
  std::unordered_map<std::string, ActivityFunction> functions_;
};

}  // namespace tempora::activity
