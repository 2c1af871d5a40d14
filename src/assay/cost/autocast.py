"""Autocast on the meta device, where nothing is cast: it can be off there, but not on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch.amp.autocast_mode import autocast


@contextmanager
def no_autocast_on_meta() -> Iterator[None]:
    """Let code that runs on the meta device switch autocast off, which torch refuses there, but not on.

    Rotary positions are computed in `torch.autocast(x.device.type, enabled=False)`. Nothing is cast on the
    meta device, so that there is nothing to switch off. Switched on for a device that is there, it would
    cast, and what is kept would have half the bytes: such a model is to be counted another way.

    Yields:
        Nothing.
    """
    made = autocast.__init__

    def made_off(
        self: autocast,
        device_type: str,
        dtype: Any = None,
        enabled: bool = True,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        device = "cpu" if device_type == "meta" and not enabled else device_type
        made(self, device, dtype, enabled, *args, **kwargs)
        if self._enabled:  # where torch found the device and the type
            raise RuntimeError(f"autocast to {self.fast_dtype} casts nothing on the meta device")

    autocast.__init__ = made_off  # type: ignore[method-assign]
    try:
        yield
    finally:
        autocast.__init__ = made  # type: ignore[method-assign]
