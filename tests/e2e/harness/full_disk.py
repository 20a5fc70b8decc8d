"""A small disk of a test's own, and how it gets full."""

import contextlib
import subprocess
import tempfile

import pytest


@contextlib.contextmanager
def tmpfs(size):
    with tempfile.TemporaryDirectory(prefix="sluice-tmpfs.", dir="/tmp") as folder:
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", folder]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            pytest.skip(f"no tmpfs can be mounted here: {done.stderr.strip()}")
        try:
            yield folder
        finally:
            subprocess.run(["umount", "-l", folder], check=True)


def fill(path):
    """Writes until nothing fits any more."""
    with open(path, "wb", buffering=0) as file:
        for size in (65536, 4096):
            with contextlib.suppress(OSError):
                while True:
                    file.write(b"\0" * size)
