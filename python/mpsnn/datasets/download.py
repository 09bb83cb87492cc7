"""Downloading MNIST: resumable, checked, atomic."""

from __future__ import annotations

import hashlib
import logging
import os
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np

from mpsnn._core import FormatError

URL = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz"
# SHA-256 of the original IDX files, unpacked: a header, then the array's bytes.
CHECKSUMS = {
    "x_train": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "y_train": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "x_test": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "y_test": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}


def mnist_file(url: str = URL, folder: Path | None = None) -> Path:
    """The cached file, downloaded first if it is not there."""
    if folder is None:
        import platformdirs

        folder = Path(platformdirs.user_cache_dir("mpsnn"))
    target = folder / "mnist.npz"
    if target.exists():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / "mnist.npz.part"
    fetch(url, part)
    try:
        verify(part)
    except FormatError:
        part.unlink()
        raise
    os.replace(part, target)
    return target


def fetch(url: str, part: Path) -> None:
    """Download to `part`, going on from what is there, with a progress bar."""
    from tqdm import tqdm

    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    logging.getLogger("mpsnn").info("downloading %s", url)
    try:
        response: Any = urllib.request.urlopen(request, timeout=60)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # there is nothing beyond what we have
            return
        raise
    with response:
        if response.status != 206:
            have = 0
        left = response.headers.get("Content-Length")
        total = have + int(left) if left else None
        with (
            open(part, "ab" if have else "wb") as file,
            tqdm(total=total, initial=have, unit="B", unit_scale=True, desc="mnist.npz") as bar,
        ):
            while chunk := response.read(1 << 16):
                file.write(chunk)
                bar.update(len(chunk))
            file.flush()
            os.fsync(file.fileno())
    if total is not None and part.stat().st_size != total:
        raise OSError(f"{url}: the connection ended early; call again to resume")


def verify(path: Path) -> None:
    """Compare the arrays with the original files' checksums."""
    try:
        with open(path, "rb") as raw, np.load(raw, allow_pickle=False) as file:
            arrays = {name: file[name] for name in CHECKSUMS}
    except Exception as error:
        raise FormatError(f"{path}: not MNIST's arrays ({error})") from None
    for name, array in arrays.items():
        magic = 0x0800 | array.ndim
        header = b"".join(int(v).to_bytes(4, "big") for v in (magic, *array.shape))
        found = hashlib.sha256(header + array.astype(np.uint8).tobytes()).hexdigest()
        if found != CHECKSUMS[name]:
            raise FormatError(f"{path}: {name} is damaged (checksum {found})")
