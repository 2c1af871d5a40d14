"""How much memory this machine has left."""

from __future__ import annotations

import os


def available_memory() -> int | None:
    """Bytes that can be allocated without swapping, as far as the system tells.

    Returns:
        A number of bytes, or None where the system does not say.
    """
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            for row in lines:
                if row.startswith("MemAvailable:"):
                    return int(row.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass  # not Linux
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None
