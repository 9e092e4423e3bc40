"""Progress with the time left: a live line on a terminal, plain lines elsewhere."""

import sys
import time
from typing import Any


class Progress:
    """Shows log rows.

    Args:
        total: batches in all.
        done: batches already done when the run was resumed.
        enabled: whether this process prints.
    """

    def __init__(self, total: int, done: int, enabled: bool) -> None:
        self.total, self.first, self.enabled = total, done, enabled
        self.started = time.monotonic()

    def show(self, row: dict[str, Any]) -> None:
        """Print one row: how far, how well, how fast, how long still."""
        if not self.enabled:
            return
        done = row["step"] - self.first
        left = (time.monotonic() - self.started) / done * (self.total - row["step"])
        text = f"{row['step']:>6}/{self.total}  adv {row['adversarial_loss']:.3f}  clean {row['clean_distance']:.3f} (ρ {row['rho']:g}, {row['violation_rate']:.0%} above)"
        if "multiplier" in row:
            text += f"  λ {row['multiplier']:.2f}"
        text += f"  {row['images_per_s']:.0f} img/s  {int(left // 60)}:{int(left % 60):02d} left"
        if sys.stdout.isatty():
            print(f"\r\033[K{text}", end="\n" if row["step"] == self.total else "", flush=True)
        else:
            print(text, flush=True)
