"""How many processors this process may use: fewer than the machine has, when a container has a quota."""

import os
from collections.abc import Iterator
from pathlib import Path

SYSTEM = Path("/")


def usable_processors(system: Path = SYSTEM) -> int:
    """At least 1. Half a processor more counts as one."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(min([affinity, *_quotas(system)]) + 0.5))


def _quotas(system: Path) -> Iterator[float]:
    """Of the control groups (cgroups(7), version 2 or 1) that this process is in, and of those around them."""
    for line in _lines(system / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        if not controllers:
            yield from map(_quota, _upwards(system / "sys/fs/cgroup", path))
        elif "cpu" in controllers.split(","):
            yield from map(_quota_of_version_1, _upwards(system / "sys/fs/cgroup/cpu", path))


def _upwards(mount: Path, path: str) -> Iterator[Path]:
    """A container often sees its own group as the root, whatever /proc calls it."""
    group = Path(path.lstrip("/"))
    for each in (group, *group.parents):
        yield mount / each


def _quota(group: Path) -> float:
    for line in _lines(group / "cpu.max"):
        share, period = line.split()
        return float("inf") if share == "max" else int(share) / int(period)
    return float("inf")


def _quota_of_version_1(group: Path) -> float:
    for share, period in zip(_lines(group / "cpu.cfs_quota_us"), _lines(group / "cpu.cfs_period_us"), strict=False):
        return int(share) / int(period) if int(share) > 0 else float("inf")
    return float("inf")


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text().splitlines()
    except OSError:  # there is no such group, or no such thing as groups
        return []
