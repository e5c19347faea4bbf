#!/usr/bin/env python3
"""House rules that a machine can check: tidy.py format | include_rules | words | unused | scripts

Looks at the files that git tracks (or would track). Prints one line a finding and exits 1 when there is any.
"""

import ast
import os
import pathlib
import re
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]

# Who may include whose public headers (docs/decisions/0002). A folder always sees its own.
LOW = {"worker", "domain", "proto", "activities/catalog"}
EVERYTHING = LOW | {"activities/ports", "activities/ledger", "activities/radius", "activities/aaa", "activities/netbox",
                    "activities/compose", "workflows", "cli", "tests"}
MAY_INCLUDE = {
    "domain": set(),
    "worker": set(),
    "proto": {"domain"},
    "activities/catalog": {"worker", "domain", "proto"},
    "activities/ports": {"domain", "proto"},
    "activities/ledger": LOW | {"activities/ports"},
    "activities/radius": LOW | {"activities/ports"},
    "activities/aaa": LOW | {"activities/ports"},
    "activities/netbox": LOW | {"activities/ports"},
    "activities/compose": LOW | {"activities/ports"},
    "workflows": LOW,
    "cli": EVERYTHING,
    "tests": EVERYTHING,
    "bench": EVERYTHING,
}

# How an included path tells its folder.
OWNER = [
    ("addrflow/domain/", "domain"), ("addrflow/v1/", "proto"), ("tempora/", "worker"),
    ("addrflow/catalog/", "activities/catalog"), ("addrflow/ports/", "activities/ports"),
    ("addrflow/ledger/", "activities/ledger"), ("addrflow/radius/", "activities/radius"),
    ("addrflow/aaa/", "activities/aaa"), ("addrflow/netbox/", "activities/netbox"),
    ("addrflow/compose/", "activities/compose"), ("addrflow/workflows/", "workflows"), ("addrflow/cli/", "cli"),
]

# Libraries that only some folders may name: (prefix, places, why).
RESERVED = [
    ("grpc", ("worker/src/transport", "worker/tests", "bench", "tests"), "gRPC stays behind the transport"),
    ("pqxx", ("activities/ledger", "activities/aaa", "cli", "tests", "bench"), "PostgreSQL belongs to ledger and aaa"),
    ("curl/", ("activities/netbox", "cli", "tests", "bench"), "HTTP belongs to netbox"),
]

# A workflow is deterministic: what these give differs from one run of the same history to the next.
FORBIDDEN_IN_WORKFLOWS = {"thread", "mutex", "shared_mutex", "condition_variable", "future", "random", "fstream",
                          "filesystem", "ctime", "cstdlib", "unistd.h", "time.h", "sys/time.h"}

CPP = {".hpp", ".cpp", ".h", ".cc"}


def tracked():
    if shutil.which("git") and (ROOT / ".git").exists():
        listed = subprocess.run(["git", "-c", f"safe.directory={ROOT}", "ls-files", "-z"], cwd=ROOT, check=True,
                                capture_output=True, text=True).stdout.split("\0")
        paths = [ROOT / name for name in listed if name]
    else:
        paths = [path for path in ROOT.rglob("*") if not {"build", ".dev", ".git"} & set(path.relative_to(ROOT).parts)]
    return [path for path in paths if path.is_file()]


def text_of(path):
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return ""


def name_of(path):
    return path.relative_to(ROOT).as_posix()


def folder_of(name):
    return max((folder for folder in MAY_INCLUDE if name.startswith(folder + "/")), key=len, default=None)


def check_format():
    formatter = shutil.which("clang-format-19") or shutil.which("clang-format")
    if not formatter:
        yield "clang-format-19 is missing (./dev setup installs it)"
        return
    files = [str(path) for path in tracked() if path.suffix in CPP]
    done = subprocess.run([formatter, "--dry-run", "-Werror", *files], capture_output=True, text=True, check=False)
    wrong = {line.split(":")[0] for line in done.stderr.splitlines() if "error:" in line}
    for path in sorted(wrong):
        yield f"{os.path.relpath(path, ROOT)}: not formatted (./dev format)"


def check_include_rules():
    for path in tracked():
        name = name_of(path)
        folder = folder_of(name)
        if path.suffix not in CPP or folder is None:
            continue
        is_test = path.stem.endswith("_test") or "/tests/" in f"/{name}"
        for number, line in enumerate(text_of(path).splitlines(), 1):
            found = re.match(r'\s*#\s*include\s*[<"]([^>"]+)[>"]', line)
            if not found:
                continue
            included = found.group(1)
            owner = next((owner for prefix, owner in OWNER if included.startswith(prefix)), None)
            if owner and owner != folder and owner not in MAY_INCLUDE[folder]:
                # The test of a workflow may use what stands in for an activity, nothing else crosses.
                if not (is_test and owner == "activities/ports"):
                    yield f"{name}:{number}: {folder} may not include {included}"
            if ".." in included.split("/") and not (path.parent / included).resolve().is_relative_to(ROOT / folder):
                yield f"{name}:{number}: climbs out of {folder}: {included}"
            if "/src/" in f"/{included}" and ".." not in included.split("/"):
                yield f"{name}:{number}: another folder's src/ is private: {included}"
            for prefix, places, why in RESERVED:
                if included.startswith(prefix) and not name.startswith(places):
                    yield f"{name}:{number}: {why}: {included}"
            if folder == "workflows" and not is_test and included in FORBIDDEN_IN_WORKFLOWS:
                yield f"{name}:{number}: a workflow is deterministic and has no use for <{included}>"


def check_words():
    never = re.compile("|".join(["TO" + "DO", "FIX" + "ME", "X" + "XX:"]))
    secret = re.compile("-----BEGIN " + "[A-Z ]*PRIVATE KEY-----")
    machine = re.compile(r"(?<![\w./])/(work|root|home/\w+)/")
    document = re.compile(r"(?<![\w/.-])([\w-]+\.md)\b")
    documents = {path.name for path in tracked() if path.suffix == ".md"}
    for path in tracked():
        name = name_of(path)
        for number, line in enumerate(text_of(path).splitlines(), 1):
            if never.search(line):
                yield f"{name}:{number}: finish it or make an issue of it: {line.strip()[:60]}"
            if secret.search(line):
                yield f"{name}:{number}: a private key"
            if machine.search(line) and not name.startswith("tests/tidy/"):
                yield f"{name}:{number}: a path of somebody's machine: {line.strip()[:60]}"
            for named in document.findall(line):
                if named not in documents:
                    yield f"{name}:{number}: names {named}, which is not here"
        if path.stat().st_size > 1_000_000:
            yield f"{name}: {path.stat().st_size} bytes: large files do not belong here"


def check_unused():
    """Every source is built by some CMakeLists.txt, every header is included somewhere, every decision is in their list."""
    files = tracked()
    listed = "\n".join(text_of(path) for path in files if path.name == "CMakeLists.txt" or path.suffix == ".cmake")
    included = set()
    for path in files:
        if path.suffix in CPP:
            included.update(pathlib.PurePosixPath(match).name
                            for match in re.findall(r'#\s*include\s*[<"]([^>"]+)[>"]', text_of(path)))
    decisions = text_of(ROOT / "docs/decisions/README.md")
    for path in files:
        name = name_of(path)
        if name.startswith("docs/decisions/0") and f"]({path.name})" not in decisions:
            yield f"{name}: docs/decisions/README.md does not list it"
        if path.suffix in {".cpp", ".cc"} and not re.search(rf"(?<![\w]){re.escape(path.name)}\b", listed):
            yield f"{name}: no CMakeLists.txt names it"
        if path.suffix in {".hpp", ".h"} and path.name not in included:
            yield f"{name}: nobody includes it"


def check_scripts():
    """Scripts parse: bash -n and Python's own parser."""
    for path in tracked():
        first = text_of(path).split("\n", 1)[0]
        if path.suffix == ".py" or (first.startswith("#!") and "python" in first):
            try:
                ast.parse(text_of(path))
            except SyntaxError as error:
                yield f"{name_of(path)}:{error.lineno}: {error.msg}"
        elif path.suffix == ".sh" or (first.startswith("#!") and first.endswith("sh")):
            done = subprocess.run(["bash", "-n", str(path)], capture_output=True, text=True, check=False)
            if done.returncode != 0:
                yield done.stderr.strip()


CHECKS = {"format": check_format, "include_rules": check_include_rules, "words": check_words,
          "unused": check_unused, "scripts": check_scripts}


def main():
    if len(sys.argv) != 2 or sys.argv[1] not in CHECKS:
        sys.exit(f"usage: tidy.py {' | '.join(CHECKS)}")
    findings = list(CHECKS[sys.argv[1]]())
    print("\n".join(findings))
    sys.exit(1 if findings else 0)


main()
