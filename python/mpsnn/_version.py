"""The version, from the installed package's metadata (its one source is pyproject.toml)."""

from __future__ import annotations

from importlib import metadata

try:
    __version__ = metadata.version("mpsnn")
except metadata.PackageNotFoundError:  # run from a build folder
    __version__ = "0+unknown"
