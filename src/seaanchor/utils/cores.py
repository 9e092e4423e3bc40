"""How many processor cores this process may use."""

import os
from pathlib import Path

GROUP = Path("/sys/fs/cgroup")


def available_cores(group: Path = GROUP) -> int:
    """Cores that the scheduler lets this process run on, and that its container has a share of; at least 1.

    Args:
        group: where Linux shows the limits of a container, of version 2 or 1.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for quota, period in (("cpu.max", None), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):
        try:
            words = (group / quota).read_text().split() + ((group / period).read_text().split() if period else [])
            if float(words[0]) > 0:  # -1 is no limit
                allowed = min(allowed, int(float(words[0]) / float(words[1])))
        except (OSError, ValueError, IndexError):  # no such file, or `max`
            continue
    return max(1, allowed)
