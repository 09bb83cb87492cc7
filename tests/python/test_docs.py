"""Every Python block of the README and of docs/ runs, page by page; the status table is current."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path) -> str:
    """A page's blocks as one script, with its line numbers."""
    lines = page.read_text().splitlines()
    code, inside = [], False
    for line in lines:
        if line.strip().startswith("```"):
            inside = line.strip() == "```python"
            code.append("")
        else:
            code.append(line if inside else "")
    return "\n".join(code) + "\n"


@pytest.mark.parametrize(
    "page", [p for p in PAGES if blocks(p).strip()], ids=lambda p: str(p.relative_to(ROOT))
)
def test_the_code_of_a_page_runs(page: Path, tmp_path: Path) -> None:
    script = tmp_path / f"{page.stem}.py"
    script.write_text(blocks(page))
    done = subprocess.run(
        [sys.executable, "-W", "error", str(script)], cwd=tmp_path, capture_output=True, text=True,
        timeout=300, check=False, env={**os.environ, "MPLBACKEND": "Agg"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_the_tables_of_support_are_what_the_devices_say() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "make_support.py"), "--check"],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_contract_names_tests_that_exist() -> None:
    text = (ROOT / "docs" / "contract.md").read_text()
    named = re.findall(r"`(test_\w+)\.(test_\w+)`", text)
    assert len(named) > 50
    for file, name in named:
        found = [*ROOT.glob(f"tests/*/{file}.py")]
        assert found, file
        assert re.search(rf"^def {name}\(", found[0].read_text(), re.MULTILINE), f"{file}.{name}"


def test_links_between_pages_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
