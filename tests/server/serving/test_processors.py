import os
from pathlib import Path

import pytest

from app.server.serving.processors import usable_processors

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def machine_with_eight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)


def write(files: dict[str, str], system: Path) -> None:
    for name, text in files.items():
        (system / name).parent.mkdir(parents=True, exist_ok=True)
        (system / name).write_text(text)


@pytest.mark.parametrize(
    ("share", "expected"),
    [("max 100000", 8), ("200000 100000", 2), ("150000 100000", 2), ("140000 100000", 1), ("10000 100000", 1)],
    ids=["no quota", "two", "one and a half", "a little more than one", "a tenth"],
)
def test_a_container_has_the_processors_of_its_quota(share: str, expected: int, tmp_path: Path) -> None:
    write({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": f"{share}\n"}, tmp_path)

    assert usable_processors(tmp_path) == expected


def test_the_smallest_quota_on_the_way_up_counts(tmp_path: Path) -> None:
    write(
        {
            "proc/self/cgroup": "0::/system.slice/keel.service\n",
            "sys/fs/cgroup/system.slice/keel.service/cpu.max": "max 100000\n",
            "sys/fs/cgroup/system.slice/cpu.max": "300000 100000\n",
        },
        tmp_path,
    )

    assert usable_processors(tmp_path) == 3


@pytest.mark.parametrize(("quota", "expected"), [("-1", 8), ("400000", 4)], ids=["no quota", "four"])
def test_the_first_version_of_control_groups_is_read_too(quota: str, expected: int, tmp_path: Path) -> None:
    write(
        {
            "proc/self/cgroup": "5:memory:/elsewhere\n4:cpu,cpuacct:/docker/42\n",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": f"{quota}\n",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
        },
        tmp_path,
    )

    assert usable_processors(tmp_path) == expected


def test_a_machine_without_control_groups_has_all_of_its_processors(tmp_path: Path) -> None:
    assert usable_processors(tmp_path) == 8
