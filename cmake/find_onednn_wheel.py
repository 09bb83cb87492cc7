"""Prints the folder of the oneDNN wheel's CMake package, or nothing without one."""

from importlib import metadata

try:
    files = metadata.files("onednn-devel-cpu-gomp") or []
except metadata.PackageNotFoundError:
    files = []
for file in files:
    if file.name == "dnnl-config.cmake":
        print(file.locate().resolve().parent)  # type: ignore[attr-defined]
