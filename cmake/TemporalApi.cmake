# The target `temporal_api`: the messages of Temporal's API, generated and compiled once into a cache outside the tree
# (ADDRFLOW_CACHE, default ~/.cache/addrflow), keyed by everything that goes into it.
find_package(Protobuf REQUIRED)
find_program(PROTOC protoc REQUIRED)

set(ADDRFLOW_CACHE "$ENV{ADDRFLOW_CACHE}" CACHE PATH "Where generated libraries are kept between builds")
if(NOT ADDRFLOW_CACHE)
  set(ADDRFLOW_CACHE "$ENV{HOME}/.cache/addrflow" CACHE PATH "" FORCE)
endif()

set(_api_dir "${CMAKE_CURRENT_LIST_DIR}/temporal_api")
execute_process(COMMAND ${PROTOC} --version OUTPUT_VARIABLE _api_key OUTPUT_STRIP_TRAILING_WHITESPACE)
foreach(_file build descriptors.py requirements.txt)
  file(SHA256 "${_api_dir}/${_file}" _hash)
  string(APPEND _api_key " ${_hash}")
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS "${_api_dir}/${_file}")
endforeach()
string(SHA256 _api_key "${_api_key} ${CMAKE_CXX_COMPILER_ID} ${CMAKE_CXX_COMPILER_VERSION}")
string(SUBSTRING "${_api_key}" 0 16 _api_key)
set(_api_target "${ADDRFLOW_CACHE}/temporal-api/${_api_key}")

if(NOT EXISTS "${_api_target}/complete")
  message(STATUS "Making the Temporal API library in ${_api_target}")
  execute_process(COMMAND bash "${_api_dir}/build" "${_api_target}" "${CMAKE_CXX_COMPILER}" 2
                  RESULT_VARIABLE _api_result)
  if(NOT _api_result EQUAL 0)
    message(FATAL_ERROR "The Temporal API library could not be made (see above).")
  endif()
endif()

add_library(temporal_api STATIC IMPORTED GLOBAL)
set_target_properties(temporal_api PROPERTIES
  IMPORTED_LOCATION "${_api_target}/lib/libtemporal_api.a"
  INTERFACE_INCLUDE_DIRECTORIES "${_api_target}/include"
  INTERFACE_LINK_LIBRARIES protobuf::libprotobuf)
