# The client: transport, retries, workflows, updates, schedules, profiles.
list(APPEND WORKER_SOURCES
  src/transport/grpc_transport.cpp
  src/transport/retrying_caller.cpp
  src/client/client.cpp
  src/client/describe.cpp
  src/client/error_map.cpp
  src/client/profile.cpp
  src/client/schedules.cpp
  src/client/updates.cpp
  src/client/workflow_handle.cpp)
list(APPEND WORKER_PRIVATE gRPC::grpc++ fmt::fmt PkgConfig::tomlplusplus)
