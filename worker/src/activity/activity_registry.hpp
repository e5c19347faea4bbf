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
  // The fallback, or null, if nobody has registered the type.
  const ActivityFunction* find(const std::string& type) const;
  // Runs every type that is not registered. Throws `std::logic_error` if there is one already.
  void add_fallback(ActivityFunction function);
  bool empty() const { return functions_.empty() && !fallback_; }
  std::vector<std::string> types() const;  // sorted

 private:
  std::unordered_map<std::string, ActivityFunction> functions_;
  ActivityFunction fallback_;
};

}  // namespace tempora::activity
