"""What every child process needs: an account that suits it, a way to end it, a way to freeze it."""

import ctypes
import os
import pwd
import signal
import subprocess

PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


def _die_with_parent():
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def spawn(command, *, user=None, limits=(), **options):
    """Starts a process that cannot outlive the tests. `limits`: [(resource, number), ...]"""
    import resource

    def prepare():
        for kind, number in limits:
            resource.setrlimit(kind, (number, number))
        _die_with_parent()

    account = {}
    if user is not None and os.geteuid() == 0:
        entry = pwd.getpwnam(user)
        account = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    return subprocess.Popen(
        command, stdin=subprocess.DEVNULL, start_new_session=True, preexec_fn=prepare, **account, **options
    )


def family(pid):
    """The process and all its descendants."""
    children = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", encoding="ascii", errors="replace") as stat:
                    parent = int(stat.read().rsplit(")", 1)[1].split()[1])
            except OSError:
                continue
            children.setdefault(parent, []).append(int(name))
    found, todo = [], [pid]
    while todo:
        pid = todo.pop()
        found.append(pid)
        todo += children.get(pid, [])
    return found


def signal_family(pid, number):
    for member in family(pid):
        try:
            os.kill(member, number)
        except ProcessLookupError:
            pass


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
