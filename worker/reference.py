#!/usr/bin/env python3
"""The reference page of every public name of tempora, from its headers: declarations as clang reads them, texts as the
comments have them. `./dev reference` writes it.

    worker/reference.py --include DIR...           is docs/reference.md what the headers say?
    worker/reference.py --include DIR... --write   make it so
"""

import argparse
import difflib
import json
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
HEADERS = ROOT / "worker" / "include"
PAGE = ROOT / "docs" / "reference.md"
TOP = """# Reference: every public name of tempora

Made from the headers by `./dev reference`; a test compares the two. A guide comes first:
[your first workflow](first-workflow.md); what works and where it is tested: [the runtime](runtime.md).
What is in a namespace `detail` is not for use.
"""
RECORDS = {"CXXRecordDecl", "ClassTemplateDecl"}
FUNCTIONS = {"FunctionDecl", "FunctionTemplateDecl", "CXXMethodDecl", "CXXConstructorDecl", "CXXConversionDecl"}
SHOWN = RECORDS | FUNCTIONS | {"EnumDecl", "TypeAliasDecl", "TypeAliasTemplateDecl", "VarDecl", "FieldDecl", "ConceptDecl"}


def public_headers():
    return sorted(path for path in (HEADERS / "tempora").rglob("*.hpp") if "detail" not in path.parts)


def declarations(compiler, include):
    """What clang says of namespace tempora, one declaration after the other."""
    source = "".join(f"#include <{path.relative_to(HEADERS)}>\n" for path in public_headers())
    flags = [f"-isystem{folder}" for folder in include]
    done = subprocess.run(
        [compiler, "-std=c++2b", f"-I{HEADERS}", *flags, "-fsyntax-only", "-Xclang", "-ast-dump=json", "-Xclang",
         "-ast-dump-filter=tempora::", "-x", "c++", "-"], input=source, capture_output=True, text=True, timeout=600)
    if done.returncode != 0:
        sys.exit(done.stderr)
    decoder, at, text = json.JSONDecoder(), 0, done.stdout
    while at < len(text):
        node, at = decoder.raw_decode(text, at)
        yield node
        while at < len(text) and text[at].isspace():
            at += 1


class Files:
    """A place without a file is in the file of the place before it: clang says a file only when it changes."""

    def __init__(self):
        self.last = ""

    def place(self, node):
        if isinstance(node, dict):
            if "offset" in node and "col" in node:
                self.last = node.get("file", self.last)
                node["file"] = self.last
            for value in node.values():
                self.place(value)
        elif isinstance(node, list):
            for value in node:
                self.place(value)


class Source:
    def __init__(self, path):
        self.bytes = path.read_bytes()

    def text(self, begin, end):
        return " ".join(self.bytes[begin:end].decode().split())

    def declaration(self, node):
        """As it is written, without a body."""
        begin = node["range"]["begin"]["offset"]
        end = node["range"]["end"]["offset"] + node["range"]["end"]["tokLen"]
        bodies = [body["range"]["begin"]["offset"] for body in walk(node, depth=2)
                  if body.get("kind") in ("CompoundStmt", "CXXTryStmt") and "offset" in body["range"]["begin"]]
        if node["kind"] in FUNCTIONS and bodies:
            end = min(bodies)
        text = self.text(begin, end)
        if node["kind"] == "CXXConstructorDecl":
            text = re.sub(r"\) : .*$", ")", text)
        return re.sub(r"( = default| = delete)?$", "", text).strip()

    def said_of(self, node):
        """The comment over a declaration, or behind it on its line."""
        begin = node["range"]["begin"]["offset"]
        end = node["range"]["end"]["offset"] + node["range"]["end"]["tokLen"]
        behind = re.match(rb"[^\n/]*// ?([^\n]*(?:\n\s{20,}//[^\n]*)*)", self.bytes[end:])
        if behind and node["kind"] not in RECORDS:
            return clean(behind.group(1).decode())
        lines = self.bytes[:begin].decode().split("\n")[:-1]
        said = []
        while lines and lines[-1].strip().startswith("//"):
            said.insert(0, lines.pop().strip())
        return clean("\n".join(said))

    def head(self):
        found = re.match(r"(?://[^\n]*\n)*", self.bytes.decode())
        return clean(found.group(0))


def clean(comment):
    lines = [re.sub(r"^\s*// ?", "", line) for line in comment.split("\n")]
    return " ".join(" ".join(lines).split()).replace("|", "\\|").replace("<", "&lt;")


def walk(node, depth):
    for child in node.get("inner", []):
        yield child
        if depth > 1:
            yield from walk(child, depth - 1)


def of_a_template(node):
    """The class or function within its template."""
    if node["kind"] not in ("ClassTemplateDecl", "FunctionTemplateDecl"):
        return node
    inner = [child for child in node.get("inner", []) if child["kind"] in RECORDS | FUNCTIONS]
    return inner[0] if inner else node


def public_members(record):
    allowed = record.get("tagUsed") == "struct"
    for child in record.get("inner", []):
        if child["kind"] == "AccessSpecDecl":
            allowed = child["access"] == "public"
        elif allowed and child["kind"] in SHOWN and not child.get("isImplicit") and not child.get("explicitlyDeleted") \
                and not child.get("name", "").startswith(("~", "(")) and "offset" in child["range"]["begin"]:
            yield child


def member_lines(source, record, indent=""):
    for member in public_members(record):
        name = member.get("name", "")
        if of_a_template(member)["kind"] == "CXXRecordDecl":
            inner = of_a_template(member)
            if inner.get("completeDefinition"):
                yield f"{indent}- `{inner.get('tagUsed', 'struct')} {name}`{tail(source.said_of(member))}"
                yield from member_lines(source, inner, indent + "  ")
        elif member["kind"] == "EnumDecl":
            yield f"{indent}- `enum {name}`: {enumerators(member)}{tail(source.said_of(member))}"
        elif name != "operator=":
            yield f"{indent}- `{source.declaration(member)}`{tail(source.said_of(member))}"


def tail(said):
    return f": {said}" if said else ""


def enumerators(node):
    return ", ".join(f"`{child['name']}`" for child in node.get("inner", []) if child["kind"] == "EnumConstantDecl")


def entry(source, node):
    """One name of the namespace: a line, and a line for each of its members."""
    inner, said = of_a_template(node), tail(source.said_of(node))
    if inner["kind"] in RECORDS:
        bases = [base["type"]["qualType"] for base in inner.get("bases", []) if base["access"] == "public"]
        kind = inner.get("tagUsed", "class") + (" template" if node is not inner else "")
        yield f"**`{node['name']}`** ({kind}{', a ' + ', '.join(f'`{base}`' for base in bases) if bases else ''}){said}\n"
        yield from member_lines(source, inner)
    elif inner["kind"] == "EnumDecl":
        yield f"**`{node['name']}`** (enum){said}\n"
        for value in inner.get("inner", []):
            if value["kind"] == "EnumConstantDecl":
                yield f"- `{value['name']}`{tail(source.said_of(value))}"
    else:
        yield f"**`{node['name']}`** `{source.declaration(node)}`{said}"
    yield ""


def page(compiler, include):
    files, found = Files(), {path: [] for path in public_headers()}
    for node in declarations(compiler, include):
        files.place(node)
        begin = node["range"]["begin"]
        path = pathlib.Path(begin.get("file", ""))
        inner = of_a_template(node)
        complete = inner["kind"] != "CXXRecordDecl" or inner.get("completeDefinition")
        named = re.match(r"[A-Za-z]", node.get("name", ""))
        if path in found and node["kind"] in SHOWN and complete and named and not node.get("isImplicit"):
            found[path].append(node)
    lines = [TOP]
    for path, nodes in found.items():
        source, seen = Source(path), set()
        lines.append(f"## `<{path.relative_to(HEADERS)}>`\n\n{source.head()}\n")
        for node in sorted(nodes, key=lambda one: one["range"]["begin"]["offset"]):
            if node["range"]["begin"]["offset"] not in seen:
                seen.add(node["range"]["begin"]["offset"])
                lines.extend(entry(source, node))
    return "\n".join(lines).rstrip() + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--compiler", default="clang++-19")
    parser.add_argument("--include", nargs="*", default=[], help="where the Temporal API's headers are")
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    made = page(arguments.compiler, arguments.include)
    if arguments.write:
        PAGE.write_text(made)
        return
    difference = list(difflib.unified_diff(PAGE.read_text().split("\n"), made.split("\n"), str(PAGE.name), "headers", lineterm="", n=0))
    if difference:
        sys.exit("\n".join(difference[:40]) + "\ndocs/reference.md is behind the headers: ./dev reference")
    print(f"{PAGE.name}: {made.count('**`')} names, as the headers have them")


if __name__ == "__main__":
    main()
