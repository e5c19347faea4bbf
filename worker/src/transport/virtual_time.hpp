// Marks a transport whose service lives on virtual time: nothing above it should let real time
// pass.
#pragma once

namespace tempora {

class VirtualTime {
 public:
  virtual ~VirtualTime() = default;
};

}  // namespace tempora
