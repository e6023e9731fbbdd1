"""What is installed elsewhere has everything that the checkout has."""

import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

from app.lib.settings import CHECKOUT

pytestmark = pytest.mark.unit


def test_the_wheel_holds_every_file_of_the_package_templates_included(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path], cwd=CHECKOUT, check=True
    )

    [wheel] = tmp_path.glob("*.whl")
    held = {name for name in ZipFile(wheel).namelist() if name.startswith("app/")}
    files = (path for path in (CHECKOUT / "src" / "app").rglob("*") if path.is_file())
    assert held == {str(path.relative_to(CHECKOUT / "src")) for path in files if "__pycache__" not in path.parts}
