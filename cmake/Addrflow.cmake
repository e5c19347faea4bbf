# One target a folder. A target sees the public headers (include/) of what it names and nothing else, so the rules
# of the house (docs/decisions/0002: who may include whom) are kept by the compiler.
include_guard(GLOBAL)

add_library(addrflow_flags INTERFACE)
target_compile_features(addrflow_flags INTERFACE cxx_std_23)
target_compile_options(addrflow_flags INTERFACE -Wall -Wextra -Wpedantic -Wnon-virtual-dtor -Woverloaded-virtual
  -Wno-missing-designated-field-initializers $<$<BOOL:${ADDRFLOW_WERROR}>:-Werror>)

# addrflow_library(NAME worker SOURCES src/a.cpp … PUBLIC targets… PRIVATE targets…)
# Without SOURCES it is a library of headers only.
function(addrflow_library)
  cmake_parse_arguments(arg "" "NAME" "SOURCES;PUBLIC;PRIVATE" ${ARGN})
  if(arg_SOURCES)
    add_library(${arg_NAME} STATIC ${arg_SOURCES})
    target_include_directories(${arg_NAME}
      PUBLIC $<BUILD_INTERFACE:${CMAKE_CURRENT_SOURCE_DIR}/include> PRIVATE src)
    target_link_libraries(${arg_NAME}
      PUBLIC ${arg_PUBLIC} PRIVATE $<BUILD_INTERFACE:addrflow_flags> ${arg_PRIVATE})
  else()
    add_library(${arg_NAME} INTERFACE)
    target_include_directories(${arg_NAME} INTERFACE include)
    target_link_libraries(${arg_NAME} INTERFACE ${arg_PUBLIC})
  endif()
endfunction()

# addrflow_proto(NAME contract ROOT dir FILES addrflow/v1/a.proto … SOURCES src/json.cpp … PUBLIC … PRIVATE …)
# A library of generated messages; more sources may live in it. Headers are seen as <addrflow/v1/a.pb.h>.
function(addrflow_proto)
  cmake_parse_arguments(arg "" "NAME;ROOT" "FILES;SOURCES;PUBLIC;PRIVATE" ${ARGN})
  set(out "${CMAKE_CURRENT_BINARY_DIR}/generated")
  file(MAKE_DIRECTORY "${out}")
  set(generated "")
  foreach(file ${arg_FILES})
    string(REGEX REPLACE "\\.proto$" "" stem "${file}")
    add_custom_command(
      OUTPUT "${out}/${stem}.pb.cc" "${out}/${stem}.pb.h"
      COMMAND ${PROTOC} -I "${arg_ROOT}" "--cpp_out=${out}" "${file}"
      DEPENDS "${arg_ROOT}/${file}" WORKING_DIRECTORY "${arg_ROOT}" COMMENT "protoc ${file}" VERBATIM)
    list(APPEND generated "${out}/${stem}.pb.cc")
  endforeach()
  set_source_files_properties(${generated} PROPERTIES COMPILE_OPTIONS "-w")
  add_library(${arg_NAME} STATIC ${generated} ${arg_SOURCES})
  target_include_directories(${arg_NAME} PUBLIC include PRIVATE src)
  target_include_directories(${arg_NAME} SYSTEM PUBLIC "${out}")
  target_link_libraries(${arg_NAME} PUBLIC protobuf::libprotobuf ${arg_PUBLIC} PRIVATE addrflow_flags ${arg_PRIVATE})
endfunction()

# addrflow_test(NAME worker_unit SOURCES src/a_test.cpp … LIBS worker … LABELS fast [TIMEOUT s] [INCLUDES dirs…])
# A program of gtest cases, registered case by case. Labels: fast, integration, replay, contract, matrix. What is
# labelled integration gets the real peers (fixture `peers`, see tests/).
function(addrflow_test)
  cmake_parse_arguments(arg "" "NAME;TIMEOUT" "SOURCES;LIBS;LABELS;INCLUDES" ${ARGN})
  if(NOT ADDRFLOW_TESTS)
    return()
  endif()
  if(NOT arg_LABELS)
    set(arg_LABELS fast)
  endif()
  if(NOT arg_TIMEOUT)
    set(arg_TIMEOUT 120)
  endif()
  add_executable(${arg_NAME} ${arg_SOURCES})
  target_include_directories(${arg_NAME} PRIVATE src ${arg_INCLUDES} "${PROJECT_SOURCE_DIR}/tests/support")
  target_link_libraries(${arg_NAME} PRIVATE addrflow_flags ${arg_LIBS} GTest::gmock GTest::gtest_main)
  if("integration" IN_LIST arg_LABELS)
    # One process for the whole program: its cases share what they started.
    add_test(NAME ${arg_NAME} COMMAND ${arg_NAME})
    set_tests_properties(${arg_NAME} PROPERTIES LABELS "${arg_LABELS}" TIMEOUT ${arg_TIMEOUT}
      FIXTURES_REQUIRED peers ENVIRONMENT "ADDRFLOW_PEERS_ENV=${PROJECT_BINARY_DIR}/peers/env")
  else()
    # Asked for its cases when ctest starts, so that a build runs nothing.
    gtest_discover_tests(${arg_NAME} TEST_PREFIX ${arg_NAME}. DISCOVERY_MODE PRE_TEST NO_PRETTY_VALUES
      PROPERTIES LABELS "${arg_LABELS}" TIMEOUT ${arg_TIMEOUT})
  endif()
endfunction()

# Not where the whole build is under a sanitizer: the fuzzers bring their own.
if(ADDRFLOW_TESTS AND CMAKE_CXX_COMPILER_ID STREQUAL "Clang" AND NOT CMAKE_CXX_FLAGS MATCHES "sanitize")
  set(ADDRFLOW_FUZZERS ON)
endif()

# NAME_fuzz, a libFuzzer program that ctest runs for a moment and `./dev fuzz` for as long as one likes.
# SEEDS: a folder of inputs to begin with. MAX_BYTES: of an input; longer seeds are cut off.
function(addrflow_fuzzer)
  cmake_parse_arguments(arg "" "NAME;SEEDS;MAX_BYTES" "SOURCES;LIBS;INCLUDES" ${ARGN})
  if(NOT ADDRFLOW_FUZZERS)
    return()
  endif()
  set(program ${arg_NAME}_fuzz)
  set(folder "${PROJECT_BINARY_DIR}/fuzz/${arg_NAME}")
  file(MAKE_DIRECTORY "${folder}")
  add_executable(${program} ${arg_SOURCES})
  target_include_directories(${program} PRIVATE ${arg_INCLUDES})
  target_compile_options(${program} PRIVATE -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined)
  target_link_options(${program} PRIVATE -fsanitize=fuzzer,address,undefined)
  target_link_libraries(${program} PRIVATE addrflow_flags ${arg_LIBS})
  add_test(NAME fuzz.${arg_NAME} COMMAND ${program} -runs=10000 -seed=1 -max_len=${arg_MAX_BYTES}
    "-artifact_prefix=${folder}-" "${folder}" ${arg_SEEDS})
  set_tests_properties(fuzz.${arg_NAME} PROPERTIES LABELS fast TIMEOUT 120)
endfunction()
