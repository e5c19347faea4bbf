"""Writes the Temporal API as a FileDescriptorSet, read from the modules of the official Python package.

    descriptors.py SET_FILE     prints the names of the files that C++ is to be generated for
"""

import importlib
import pathlib
import pkgutil
import sys
import types

from google.protobuf import descriptor_pb2


def import_api():
    """temporalio's own __init__ loads its native core; only the folder of its descriptors is wanted."""
    for entry in map(pathlib.Path, sys.path):
        if (entry / "temporalio" / "api").is_dir():
            package = types.ModuleType("temporalio")
            package.__path__ = [str(entry / "temporalio")]
            sys.modules["temporalio"] = package
            return importlib.import_module("temporalio.api")
    sys.exit("the package temporalio is not installed")


def main(set_file):
    files = {}

    def add(file):
        if file.name in files:
            return
        for dependency in file.dependencies:
            add(dependency)
        files[file.name] = descriptor_pb2.FileDescriptorProto()
        file.CopyToProto(files[file.name])

    api = import_api()
    for module in pkgutil.walk_packages(api.__path__, api.__name__ + "."):
        # The cloud's operations API is another service, and large.
        if module.name.endswith("_pb2") and ".cloud." not in module.name:
            add(importlib.import_module(module.name).DESCRIPTOR)
    add(importlib.import_module("google.rpc.status_pb2").DESCRIPTOR)

    pathlib.Path(set_file).write_bytes(
        descriptor_pb2.FileDescriptorSet(file=files.values()).SerializeToString())
    print("\n".join(name for name in files if not name.startswith("google/protobuf/")))


main(sys.argv[1])
