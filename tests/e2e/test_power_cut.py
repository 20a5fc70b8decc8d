"""The power goes: the journal's disk is copied while the gateway runs, and every copy is started from.

The disk is an ext4 image on a loop device; what the kernel has not written to the image does not survive,
as with a real disk whose power is cut. A kill -9 cannot show that: it loses nothing of the page cache.
(ext4, data=ordered; no other claim is made.)
"""

import os
import shutil
import signal
import subprocess
import tempfile

import pytest
from harness.db import Database
from harness.gateway import migrate
from harness.scene import Scene, rounds, scene_on
from harness.wait import wait_until

IMAGE_BYTES = 48 << 20
JOURNAL = {"journal.segment_bytes": 1 << 18}


def run(*command):
    return subprocess.run(command, capture_output=True, text=True, check=False)


class Disk:
    """An ext4 image on a tmpfs, mounted."""

    def __init__(self, folder, image):
        self.image = image
        self.mounted_at = tempfile.mkdtemp(dir=folder)
        done = run("mount", "-o", "loop", image, self.mounted_at)
        if done.returncode != 0:
            raise OSError(done.stderr.strip())

    def unmount(self):
        if self.mounted_at:
            # a killed process may still be on its way out
            wait_until(lambda: run("umount", self.mounted_at).returncode == 0, 10, "the image is unmounted")
            self.mounted_at = None


@pytest.fixture
def bench():
    """A folder on a tmpfs of its own, with an empty ext4 image in it."""
    folder = tempfile.mkdtemp(prefix="sluice-cut.", dir="/tmp")
    mounted = run("mount", "-t", "tmpfs", "-o", "size=1g", "none", folder)
    try:
        if mounted.returncode != 0:
            pytest.skip(f"no tmpfs can be mounted here: {mounted.stderr.strip()}")
        with open(f"{folder}/image", "wb") as file:
            file.truncate(IMAGE_BYTES)
        made = run("mkfs.ext4", "-q", "-F", "-b", "4096", "-J", "size=4", f"{folder}/image")
        if made.returncode != 0:
            pytest.skip(f"no ext4 can be made here: {made.stderr.strip()}")
        yield folder
    finally:
        if mounted.returncode == 0:
            run("umount", "-l", folder)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def disk(bench):
    try:
        mounted = Disk(bench, f"{bench}/image")
    except OSError as failure:
        pytest.skip(f"no image can be mounted here: {failure}")
    yield mounted
    mounted.unmount()


def copy(source, target):
    """What the platters hold now. Sparse, so that it takes a few milliseconds."""
    done = run("cp", "--sparse=always", source, target)
    assert done.returncode == 0, done.stderr


def cut(scene, disk, image, in_postgres, *, frozen):
    """A copy, and what had been acknowledged before it began; what had left the journal by then is not owed."""
    pid = scene.gateway.process.pid
    if frozen:
        os.kill(pid, signal.SIGSTOP)
    try:
        owed = scene.ledger.owed() - in_postgres
        copy(disk.image, image)
    finally:
        os.kill(pid, signal.SIGCONT)
    return image, owed


def test_the_power_is_cut_under_load(settings, own_postgres, own_database, bench, disk):
    """Half of the copies are taken while the gateway is stopped in its tracks, the others while it runs."""
    with scene_on(settings, own_database, f"{disk.mounted_at}/journal") as scene:
        for series in range(max(1, rounds(6) // 6)):
            in_postgres = scene.ledger.owed()
            scene.start(JOURNAL)
            own_postgres.stop()  # so that everything has to come out of the journal
            with scene.load(clients=8) as load:
                cuts = []
                for number in range(6):
                    load.await_answered(scene.rng.randrange(5, 30))
                    cuts.append(cut(scene, disk, f"{bench}/cut{number}", in_postgres, frozen=number % 2 == 0))
            scene.kill()
            own_postgres.start()
            for number, (image, owed) in enumerate(cuts):
                start_from(scene, own_postgres, settings, bench, image, owed, 6 * series + number)
                os.unlink(image)
            scene.start(JOURNAL)
            scene.settle()
            scene.stop()


def start_from(story, postgres, settings, bench, image, owed, number):
    """A fresh gateway and a fresh, empty database; the clients' ledger is the one of the story."""
    url = postgres.create_database(f"cut{number}_{story.seed}")
    migration = migrate(url)
    assert migration.returncode == 0, migration.stderr
    disk = Disk(bench, image)
    scene = Scene(settings, Database(url), f"{disk.mounted_at}/journal", story.seed)
    scene.ledger = story.ledger
    try:
        gateway = scene.start(JOURNAL)
        scene.drain()
        scene.judge(owed=owed)
        assert gateway.metric("sluice_journal_quarantined_records_total") == 0, "nothing that was synced is damaged"
        scene.stop()
    finally:
        if scene.gateway is not None:
            scene.gateway.kill()
        disk.unmount()
