"""After each test on the stand-in for Apple's frameworks: their contract was kept.

And on `mps`, whose backend has not caught up: a test of what it refuses is skipped with the refusal
as the reason.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator

import mpsnn
import pytest
from apple import SIMULATED, violations

# What tests that name it do in a build without `cpu`, and what mps refuses.
REFUSED = re.compile(
    r"there is no device 'cpu' here|"
    r"on mps: mps has no [a-z0-9_ ]+ yet"
)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    error = call.excinfo.value if call.excinfo is not None else None
    refused = isinstance(error, (mpsnn.UnsupportedError, mpsnn.DeviceError))
    if refused and (found := REFUSED.search(str(error))):
        report.outcome = "skipped"
        path, line, _ = item.location
        report.longrepr = (path, (line or 0) + 1, f"Skipped: {found[0]}")
    return report


if SIMULATED:

    @pytest.fixture(autouse=True)
    def contract_of_apple() -> Iterator[None]:
        yield
        mpsnn._core.drain()
        assert violations() == []
