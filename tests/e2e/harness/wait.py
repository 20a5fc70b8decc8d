"""Waiting for a condition instead of for a time."""

import time


def wait_until(condition, timeout=10.0, what=None):
    """Calls `condition` until it returns something true, and returns that."""
    deadline = time.monotonic() + timeout
    pause = 0.002
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s: {what or condition}")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.05)
