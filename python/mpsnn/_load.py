"""Imports the compiled module, finding oneDNN's library where its run path does not lead to it.

The run path of ``_core`` covers virtual environments and ``--user`` installations. In other
layouts (two ``site-packages`` on one path, an overlay) the list of files that pip keeps of the
oneDNN package tells where the library is. It is loaded privately: made global, its symbols would
replace those of other copies of oneDNN in the process, such as PyTorch's. Wheels with a static
oneDNN need none of this.
"""

import ctypes
from importlib import import_module
from types import ModuleType

_PACKAGE = "onednn-cpu-gomp"
_LIBRARY = "libdnnl.so.3"


def _load_onednn() -> bool:
    from importlib import metadata  # a slow import, and rarely needed

    try:
        files = metadata.files(_PACKAGE) or []
    except metadata.PackageNotFoundError:
        return False
    for file in files:
        path = file.locate()
        if file.name == _LIBRARY and path.is_file():  # type: ignore[attr-defined]
            ctypes.CDLL(str(path))
            return True
    return False


def _load_core() -> ModuleType:
    try:
        return import_module("mpsnn._core")
    except ImportError as error:
        if _LIBRARY not in str(error):
            raise
        if not _load_onednn():
            raise ImportError(
                f"{_LIBRARY} not found; it comes with the package {_PACKAGE}: "
                f"pip install {_PACKAGE} (pip's --target leaves the library out)"
            ) from error
    return import_module("mpsnn._core")


_load_core()
