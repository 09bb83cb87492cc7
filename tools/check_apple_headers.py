"""Checks the code for Apple's frameworks against a real macOS SDK.

Two checks: every declaration in the headers of the software stand-in (`tests/apple_sim/include`) is
one that the SDK has, with the same types and values; and every `src/backend/mps/*.mm` type-checks
against the SDK for arm64 and x86-64, with ARC and warnings as errors. The SDK is only read.

usage: check_apple_headers.py [--sdk PATH] [--compiler CLANG]

On a Mac the SDK is asked of `xcrun --show-sdk-path`; elsewhere give the path of an unpacked one.
Nullability is not compared.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
HEADERS = ROOT / "tests" / "apple_sim" / "include"
BACKEND = ROOT / "src" / "backend" / "mps"
PROBES = ROOT / "tests" / "mac"
UMBRELLA = """#import <Foundation/Foundation.h>
#import <Metal/Metal.h>
#import <MetalPerformanceShaders/MetalPerformanceShaders.h>
"""
PREFIXES = ("MTL", "MPS", "NS")
# fmt: off
WARNINGS = [
    "-Wall", "-Wextra", "-Werror", "-Wunguarded-availability", "-Wunguarded-availability-new",
    "-Wobjc-missing-super-calls", "-Wobjc-multiple-method-names",
    "-Wnullable-to-nonnull-conversion", "-Wselector", "-Wselector-type-mismatch",
    "-Wstrict-selector-match", "-Wundeclared-selector", "-Wsuper-class-method-mismatch",
    "-Wimplicit-retain-self", "-Wdeprecated-declarations", "-Wprotocol",
    "-Wincomplete-implementation", "-Wshadow-ivar", "-Wunused-property-ivar",
    "-Wblock-capture-autoreleasing", "-Warc-repeated-use-of-weak", "-Wconversion",
    "-Wno-sign-conversion",
]
# fmt: on
QUALIFIERS = re.compile(
    r"\b(_Nonnull|_Nullable|_Null_unspecified|__strong|__autoreleasing|__unsafe_unretained|"
    r"__kindof|nonnull|nullable|oneway)\b"
)
MINIMUM = "11.0"  # the deployment target of the package

Node = dict[str, Any]
Key = tuple[str, str]
Declarations = dict[Key, tuple[str, ...]]


def normal(type_: str) -> str:
    """The type's spelling without what does not tell two declarations apart."""
    type_ = re.sub(r"\s+", " ", QUALIFIERS.sub("", type_))
    type_ = re.sub(r"\s*([*<>,^()\[\]])\s*", r"\1", type_).strip()
    for spelling, plain in (
        ("instancetype", "id"),
        ("struct _NSZone", "NSZone"),
        ("__va_list_tag*", "va_list"),
    ):
        type_ = type_.replace(spelling, plain)
    return type_


def target(sdk: Path, arch: str) -> list[str]:
    """Clang's options for a Mac of this architecture."""
    return ["-target", f"{arch}-apple-macos{MINIMUM}", "-isysroot", str(sdk), "-stdlib=libc++"]


def syntax_tree(compiler: str, flags: list[str], prefix: str) -> Iterator[Node]:
    """What clang dumps of the declarations whose name contains the prefix."""
    with tempfile.NamedTemporaryFile("w", suffix=".mm") as file:
        file.write(UMBRELLA)
        file.flush()
        options = ["-std=c++17", "-fsyntax-only", "-w"]
        dump = ["-Xclang", "-ast-dump=json", "-Xclang", f"-ast-dump-filter={prefix}"]
        command = [compiler, *flags, *options, *dump, file.name]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        sys.exit(result.stderr)
    decoder, text, at = json.JSONDecoder(), result.stdout, 0
    while at < len(text):
        if text[at].isspace():
            at += 1
            continue
        node, at = decoder.raw_decode(text, at)
        yield node


def folded_value(node: Node) -> int | None:
    """The value of an enumerator as clang folded it; None where it has none of its own."""
    for inner in node.get("inner", []):
        if "value" in inner:
            return int(inner["value"])
        value = folded_value(inner)
        if value is not None:
            return value
    return None


class Collector:
    """The declarations of a syntax tree, and which class or protocol inherits from which."""

    def __init__(self, nodes: Iterator[Node]) -> None:
        self.declarations: Declarations = {}
        self.parents: dict[str, set[str]] = {}
        for node in nodes:
            self.visit(node, None)

    def visit(self, node: Node, owner: str | None) -> None:
        kind = node.get("kind")
        if kind in ("ObjCInterfaceDecl", "ObjCProtocolDecl", "ObjCCategoryDecl"):
            named = node["interface"] if kind == "ObjCCategoryDecl" else node
            owner = str(named.get("name"))
            related = [node.get("super", {}), *node.get("protocols", [])]
            self.parents.setdefault(owner, set()).update(r["name"] for r in related if "name" in r)
        elif kind == "ObjCMethodDecl" and owner:
            parameters = [i for i in node.get("inner", []) if i["kind"] == "ParmVarDecl"]
            types = [node["returnType"], *(p["type"] for p in parameters)]
            sign = "-" if node["instance"] else "+"
            self.add(owner, sign + node["name"], *(normal(t["qualType"]) for t in types))
            return
        elif kind == "ObjCPropertyDecl" and owner:
            access = "readonly" if node.get("readonly") else "readwrite"
            self.add(owner, "@" + node["name"], normal(node["type"]["qualType"]), access)
            return
        elif kind == "EnumDecl":
            self.enumerators(node)
            return
        elif kind == "FunctionDecl":
            linkage = "C++" if "_Z" in node.get("mangledName", "") else "C"
            self.add("function", node["name"], normal(node["type"]["qualType"]), linkage)
            return
        elif kind == "TypedefDecl":
            self.add("typedef", node["name"], normal(node["type"]["qualType"]))
            return
        for inner in node.get("inner", []):
            self.visit(inner, owner)

    def enumerators(self, node: Node) -> None:
        value = 0
        for constant in node.get("inner", []):
            if constant["kind"] != "EnumConstantDecl":
                continue
            given = folded_value(constant)
            value = value if given is None else given
            self.add("enumerator", constant["name"], str(value))
            value += 1

    def add(self, owner: str, name: str, *signature: str) -> None:
        self.declarations[owner, name] = signature

    def find(self, owner: str, name: str, seen: frozenset[str]) -> tuple[str, ...] | None:
        if (owner, name) in self.declarations:
            return self.declarations[owner, name]
        for parent in self.parents.get(owner, ()):
            if parent not in seen:
                found = self.find(parent, name, seen | {owner})
                if found:
                    return found
        return None


def compare_headers(compiler: str, sdk: Path) -> int:
    """Prints what differs between the stand-in's headers and the SDK's; returns how many."""
    stand_in = ["-fobjc-runtime=macosx-12.0", "-fblocks", f"-I{HEADERS}"]
    if sys.platform == "darwin":
        # The stand-in's headers come first; what they include of C is the SDK's.
        stand_in = ["-fblocks", f"-I{HEADERS}", "-nostdlibinc", "-isystem", f"{sdk}/usr/include"]
    compared = differing = 0
    for prefix in PREFIXES:
        real = Collector(syntax_tree(compiler, target(sdk, "arm64"), prefix))
        ours = Collector(syntax_tree(compiler, stand_in, prefix))
        for (owner, name), signature in sorted(ours.declarations.items()):
            if name in ("-dealloc", "+alloc"):
                continue
            compared += 1
            found = real.find(owner, name, frozenset())
            if found != signature:
                differing += 1
                print(f"{owner} {name}\n   stand-in {signature}\n   SDK      {found}")
    print(f"{compared} declarations compared, {differing} differ")
    return differing


def check_backend(compiler: str, sdk: Path) -> int:
    """Type-checks the backend for both architectures; returns the number of failures."""
    files = [*sorted(BACKEND.glob("*.mm")), *sorted(PROBES.glob("*.mm"))]
    failed = 0
    for file in files:
        for arch in ("arm64", "x86_64"):
            flags = [*target(sdk, arch), "-std=c++17", "-fobjc-arc", *WARNINGS, "-fsyntax-only"]
            folders = ("include", "src", "tests/apple_sim/tests")
            include = [f"-I{ROOT / folder}" for folder in folders]
            failed += (
                subprocess.run([compiler, *flags, *include, str(file)], check=False).returncode != 0
            )
    print(f"{len(files)} files type-checked for arm64 and x86_64, {failed} failures")
    return failed


def main() -> int:
    """Runs both checks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sdk", type=Path, help="the SDK's folder; default: what xcrun says")
    parser.add_argument("--compiler", help="clang with Objective-C++; default: the newest found")
    options = parser.parse_args()
    sdk: Path | None = options.sdk
    if sdk is None and shutil.which("xcrun"):
        shown = subprocess.run(
            ["xcrun", "--show-sdk-path"], capture_output=True, text=True, check=True
        )
        sdk = Path(shown.stdout.strip())
    if sdk is None or not (sdk / "System").is_dir():
        parser.error("no macOS SDK: give --sdk PATH")
    names = ["clang++", *(f"clang++-{n}" for n in range(22, 13, -1))]
    compiler = options.compiler or next((n for n in names if shutil.which(n)), None)
    if compiler is None:
        parser.error("no clang: give --compiler")
    failures = compare_headers(compiler, sdk) + check_backend(compiler, sdk)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
