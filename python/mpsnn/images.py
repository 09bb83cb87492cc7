"""ImageBatch: a Tensor of N images."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from mpsnn._core import ShapeError, Tensor


class ImageBatch:
    """N images `(H, W, C)` of one shape and dtype (MPSImageBatch).

    Indexing and slicing share memory with the batch; `append` copies one image in.

    Args:
        images: an array-like `(N, H, W, C)`, or None for an empty batch that `append` fills.
        dtype: storage type; the array's own by default.

    Raises:
        ShapeError: the array has not four axes.
    """

    def __init__(self, images: Any = None, dtype: str | None = None) -> None:
        self._dtype = dtype
        self._tensor: Tensor | None = None
        self._count = 0
        if images is not None:
            tensor = images if isinstance(images, Tensor) else Tensor(images, dtype)
            if len(tensor.shape) != 4:
                raise ShapeError(f"[ImageBatch] expected (N, H, W, C), got {tensor.shape}")
            self._tensor, self._count = tensor, tensor.shape[0]

    @property
    def tensor(self) -> Tensor:
        """The images as one Tensor `(N, H, W, C)`, without a copy."""
        if self._tensor is None:
            raise ShapeError("[ImageBatch] an empty batch has no image shape yet")
        return self._tensor[: self._count]

    @property
    def shape(self) -> tuple[int, ...]:
        """`(N, H, W, C)`."""
        return self.tensor.shape

    @property
    def dtype(self) -> str:
        """The storage type."""
        return self.tensor.dtype

    @property
    def device(self) -> str:
        """Where the images are."""
        return self.tensor.device

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, key: int | slice) -> Any:
        part = self.tensor[key]
        return ImageBatch(part) if isinstance(key, slice) else part

    def __iter__(self) -> Iterator[Tensor]:
        return (self.tensor[i] for i in range(self._count))

    def append(self, image: Any) -> None:
        """Copy one image `(H, W, C)` to the end. Earlier slices keep the memory they had."""
        new = image if isinstance(image, Tensor) else Tensor(image, self._dtype)
        if len(new.shape) != 3:
            raise ShapeError(f"[ImageBatch] expected an image (H, W, C), got {new.shape}")
        if self._tensor is None:
            self._tensor = Tensor(np.zeros((4, *new.shape), np.float32), new.dtype)
        elif new.shape != self._tensor.shape[1:]:
            raise ShapeError(
                f"[ImageBatch] expected an image {self._tensor.shape[1:]}, got {new.shape}"
            )
        if self._count == self._tensor.shape[0]:
            old = self._tensor.numpy()
            self._tensor = Tensor(np.concatenate([old, np.zeros_like(old)]), self._tensor.dtype)
        row = self._tensor[self._count]
        if row.dtype == "bfloat16":
            raise ShapeError("[ImageBatch] append is for dtypes that numpy has")
        row.numpy()[...] = new.numpy()
        self._count += 1

    def numpy(self) -> np.ndarray:
        """A view of the images."""
        return self.tensor.numpy()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self.tensor.__array__(dtype, copy))

    def __dlpack__(self, **options: Any) -> Any:
        return self.tensor.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.tensor.__dlpack_device__()

    def __repr__(self) -> str:
        return f"ImageBatch({'empty' if self._tensor is None else self.tensor})"
