"""Turns Metal source of the common subset into C++ that registers its kernels by name.

usage: metal_kernels.py OUTPUT FILE...

The files are concatenated as the backend does at run time; pointers into buffers become checked
ones, everything else is compiled as it stands.
"""

import re
import sys
from pathlib import Path

KERNEL = re.compile(r"^kernel\s+void\s+(\w+)\s*\((.*?)\)\s*\{", re.M | re.S)
ARGUMENT = re.compile(r"^(?P<type>.*?)(?P<name>\w+)\s*\[\[\s*(?P<kind>\w+)(?:\((?P<index>\d+)\))?")
POINTER = re.compile(r"\b(device|constant)\s+(const\s+)?(\w+)\s*\*|\bconst\s+(device)\s+(\w+)\s*\*")


def checked(match: re.Match[str]) -> str:
    space, const, element = match[1], match[2], match[3]
    if match[4]:
        const, element = "const ", match[5]
    const = "const " if const or space == "constant" else ""
    return f"apple_sim::Pointer<{const}{element}> "


def split_arguments(text: str) -> list[str]:
    parts, depth = [""], 0
    for c in text:
        depth += (c in "([<") - (c in ")]>")
        if c == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += c
    return [" ".join(p.split()) for p in parts]


def kernel_entry(name: str, arguments: str) -> tuple[str, str]:
    table: list[str] = []
    call: list[str] = []
    for text in split_arguments(arguments):
        m = ARGUMENT.match(text)
        if not m:
            raise SystemExit(f"kernel {name}: cannot read argument {text!r}")
        kind, arg = m["kind"], f"a[{len(table)}]"
        if kind == "thread_position_in_grid":
            call.append("thread_id")
            continue
        if kind != "buffer":
            raise SystemExit(f"kernel {name}: [[{kind}]] is not in the common subset")
        type_ = m["type"].strip()
        pointer = POINTER.match(type_)
        if pointer:
            element = pointer[3] or pointer[5]
            const = bool(pointer[2] or pointer[4] or pointer[1] == "constant")
            const_text = "const " if const else ""
            call.append(
                f"apple_sim::Pointer<{const_text}{element}>{{static_cast<{element}*>({arg}.data), "
                f'{arg}.bytes / sizeof({element}), "{name}"}}'
            )
        else:
            reference = re.match(r"constant\s+(?:const\s+)?(\w+)\s*&$", type_)
            if not reference:
                raise SystemExit(f"kernel {name}: argument {text!r} is not in the common subset")
            element, const = reference[1], True
            call.append(f"*static_cast<const {element}*>({arg}.data)")
        flags = f"{str(not pointer).lower()}, {str(not const).lower()}"
        table.append(f'{{"{m["name"]}", {m["index"]}, {flags}, sizeof({element})}}')
    run = (
        f"static void run_{name}(const apple_sim::BoundArgument* a, unsigned thread_id) {{\n"
        f"  (void)a; (void)thread_id;\n  {name}({', '.join(call)});\n}}\n"
    )
    return run, f'{{"{name}", {{{", ".join(table)}}}, run_{name}}}'


def main() -> None:
    output, *files = sys.argv[1:]
    source = "".join(Path(f).read_text() for f in files)
    entries = [kernel_entry(m[1], m[2]) for m in KERNEL.finditer(source)]
    pieces = [source[i : i + 8000] for i in range(0, len(source), 8000)]
    literal = "\n".join(f'R"metal({p})metal"' for p in pieces)
    Path(output).write_text(
        '#include "metal_subset.h"\nnamespace {\n'
        + POINTER.sub(checked, source)
        + "\n"
        + "".join(run for run, _ in entries)
        + "const bool registered = apple_sim::register_library({\n"
        + literal
        + ",\n{"
        + ",\n".join(entry for _, entry in entries)
        + "}});\n}  // namespace\n"
    )


if __name__ == "__main__":
    main()
