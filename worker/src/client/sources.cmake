# The client: transport, retries, workflows, updates, schedules, profiles.
list(APPEND WORKER_SOURCES
  src/converter/aes_gcm_codec.cpp
  src/converter/codec.cpp
  src/converter/codec_endpoint.cpp
  src/converter/codec_server.cpp
  src/http/http_server.cpp
  src/interceptor/interceptor.cpp
  src/interceptor/tracing.cpp
  src/transport/codec_transport.cpp
  src/transport/grpc_transport.cpp
  src/transport/retrying_caller.cpp
  src/transport/size_transport.cpp
  src/transport/timer_queue.cpp
  src/client/async_activity.cpp
  src/client/batches.cpp
  src/client/client.cpp
  src/client/deployments.cpp
  src/client/describe.cpp
  src/client/error_map.cpp
  src/client/nexus_endpoints.cpp
  src/client/profile.cpp
  src/client/schedules.cpp
  src/client/updates.cpp
  src/client/workflow_handle.cpp
  src/client/workflow_operations.cpp)
list(APPEND WORKER_PRIVATE gRPC::grpc++ fmt::fmt OpenSSL::Crypto PkgConfig::tomlplusplus)
list(APPEND WORKER_TESTS
  src/transport/grpc_transport_test.cpp
  src/transport/retrying_caller_test.cpp
  src/transport/size_transport_test.cpp
  src/client/client_test.cpp
  src/client/profile_test.cpp)
addrflow_test(NAME worker_client_server SOURCES src/client/client_server_test.cpp LIBS worker LABELS integration)
addrflow_test(NAME worker_edges_unit SOURCES src/converter/codec_test.cpp src/converter/codec_endpoint_test.cpp src/interceptor/tracing_test.cpp LIBS worker LABELS fast)
if(TARGET worker_edges_unit)
  target_include_directories(worker_edges_unit PRIVATE src)
endif()
