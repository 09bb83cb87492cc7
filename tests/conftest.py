"""After each test on the stand-in for Apple's frameworks: their contract was kept."""

from __future__ import annotations

from collections.abc import Iterator

import mpsnn
import pytest
from apple import SIMULATED, violations

if SIMULATED:

    @pytest.fixture(autouse=True)
    def contract_of_apple() -> Iterator[None]:
        yield
        mpsnn._core.drain()
        assert violations() == []
