"""The test's side of shim/disk_faults.c: which calls below the journal's folder fail, and how often."""

import errno
import mmap
import os
import struct
import subprocess

_SOURCE = os.path.join(os.path.dirname(__file__), "..", "shim", "disk_faults.c")
_KINDS = {"sync": 0, "write": 1, "allocate": 2}
_FAULT = struct.Struct("=iiii")  # remaining, errno, hits, calls


class DiskFaults:
    def __init__(self, scratch, folder):
        """Compiles the shim into `scratch`; calls on files below `folder` are its business."""
        library, control = f"{scratch}/disk_faults.so", f"{scratch}/control"
        command = ["gcc", "-std=gnu17", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", _SOURCE, "-o", library, "-ldl"]
        subprocess.run(command, check=True)
        with open(control, "wb") as file:
            file.write(bytes(_FAULT.size * len(_KINDS)))
        with open(control, "r+b") as file:
            self._page = mmap.mmap(file.fileno(), 0)
        self.preload = {
            "LD_PRELOAD": library,
            "DISK_FAULTS_CONTROL": control,
            "DISK_FAULTS_FOLDER": os.path.realpath(folder),
        }

    def _fault(self, kind):
        return _FAULT.unpack_from(self._page, _KINDS[kind] * _FAULT.size)

    def fail(self, kind, number=errno.EIO, times=-1):
        """The next `times` calls fail (-1: all of them, until mend)."""
        at = _KINDS[kind] * _FAULT.size
        struct.pack_into("=i", self._page, at + 4, number)  # before the count, which makes it count
        struct.pack_into("=i", self._page, at, times)

    def mend(self):
        for kind in _KINDS:
            struct.pack_into("=i", self._page, _KINDS[kind] * _FAULT.size, 0)

    def hits(self, kind):
        return self._fault(kind)[2]

    def calls(self, kind):
        return self._fault(kind)[3]
