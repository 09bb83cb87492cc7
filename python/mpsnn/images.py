"""ImageBatch and Matrix: a Tensor of N images, or of N rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from mpsnn._core import ShapeError, Tensor


class _Batch:
    """N items of one shape and dtype. Indexing and slicing share memory, `append` copies one in."""

    axes: tuple[str, ...] = ()  # of one item

    def __init__(self, items: Any = None, dtype: str | None = None) -> None:
        self._dtype = dtype
        self._tensor: Tensor | None = None
        self._count = 0
        if items is not None:
            tensor = items if isinstance(items, Tensor) else Tensor(items, dtype)
            if len(tensor.shape) != 1 + len(self.axes):
                expected = ", ".join(("N", *self.axes))
                raise ShapeError(
                    f"[{type(self).__name__}] expected ({expected}), got {tensor.shape}"
                )
            self._tensor, self._count = tensor, tensor.shape[0]

    @property
    def tensor(self) -> Tensor:
        """The items as one Tensor `(N, ...)`, without a copy."""
        if self._tensor is None:
            raise ShapeError(f"[{type(self).__name__}] an empty batch has no shape yet")
        return self._tensor[: self._count]

    @property
    def shape(self) -> tuple[int, ...]:
        """`(N, ...)`."""
        return self.tensor.shape

    @property
    def dtype(self) -> str:
        """The storage type."""
        return self.tensor.dtype

    @property
    def device(self) -> str:
        """Where the items are."""
        return self.tensor.device

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, key: int | slice) -> Any:
        part = self.tensor[key]
        return type(self)(part) if isinstance(key, slice) else part

    def __iter__(self) -> Iterator[Tensor]:
        return (self.tensor[i] for i in range(self._count))

    def append(self, image: Any) -> None:
        """Copy one item to the end. Earlier slices keep the memory they had."""
        me, item = type(self).__name__, ", ".join(self.axes)
        new = image if isinstance(image, Tensor) else Tensor(image, self._dtype)
        if len(new.shape) != len(self.axes):
            raise ShapeError(f"[{me}] expected an item ({item}), got {new.shape}")
        if self._tensor is None:
            self._tensor = Tensor(np.zeros((4, *new.shape), np.float32), new.dtype)
        elif new.shape != self._tensor.shape[1:]:
            raise ShapeError(f"[{me}] expected an item {self._tensor.shape[1:]}, got {new.shape}")
        if self._count == self._tensor.shape[0]:
            old = self._tensor.numpy()
            self._tensor = Tensor(np.concatenate([old, np.zeros_like(old)]), self._tensor.dtype)
        row = self._tensor[self._count]
        if row.dtype == "bfloat16":
            raise ShapeError(f"[{me}] append is for dtypes that numpy has")
        row.numpy()[...] = new.numpy()
        self._count += 1

    def numpy(self) -> np.ndarray:
        """A view of the items."""
        return self.tensor.numpy()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self.tensor.__array__(dtype, copy))

    def __dlpack__(self, **options: Any) -> Any:
        return self.tensor.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.tensor.__dlpack_device__()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({'empty' if self._tensor is None else self.tensor})"


class ImageBatch(_Batch):
    """N images `(H, W, C)` of one shape and dtype (MPSImageBatch).

    Indexing and slicing share memory with the batch; `append` copies one image in.

    Args:
        items: an array-like `(N, H, W, C)`, or None for an empty batch that `append` fills.
        dtype: storage type; the array's own by default.

    Raises:
        ShapeError: the array has not four axes.
    """

    axes = ("H", "W", "C")


class Matrix(_Batch):
    """N rows `(C,)` of one length and dtype (MPSMatrix); as ImageBatch.

    Raises:
        ShapeError: the array has not two axes.
    """

    axes = ("C",)
