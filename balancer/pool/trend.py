"""Where the memory of a process is going: a straight line through its last minutes. Pure."""

from collections import deque
from typing import Final

INTERVAL: Final = 5.0  # seconds between two points
KEPT: Final = 120  # points: ten minutes
FEWEST: Final = 6  # points without which nothing is said


class Trend:
    """Points of one process: (seconds, bytes); seconds of a steady clock."""

    def __init__(self) -> None:
        self._points: deque[tuple[float, int]] = deque(maxlen=KEPT)

    def add(self, now: float, size: int) -> None:
        """What it has now; more often than every `INTERVAL` says nothing new."""
        if not self._points or now - self._points[-1][0] >= INTERVAL:
            self._points.append((now, size))

    @property
    def slope(self) -> float:
        """Bytes per second, by least squares; 0 while too little is known."""
        count = len(self._points)
        if count < FEWEST:
            return 0.0
        start = self._points[0][0]
        times = [at - start for at, _ in self._points]
        mean_time = sum(times) / count
        mean_size = sum(size for _, size in self._points) / count
        covariance = sum((t - mean_time) * (size - mean_size) for t, (_, size) in zip(times, self._points, strict=True))
        return covariance / sum((t - mean_time) ** 2 for t in times)

    def seconds_to(self, limit: int) -> float | None:
        """Until it has so many bytes if it goes on like this; None when it does not grow, or nothing is known."""
        slope = self.slope
        return max(0.0, (limit - self._points[-1][1]) / slope) if slope > 0 else None
