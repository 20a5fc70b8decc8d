"""Private Redis and PostgreSQL servers on unix sockets, which a test may stop, kill or freeze."""

import glob
import os
import shutil
import signal
import subprocess
import tempfile

import psycopg2
import redis

from .process import signal_family, spawn
from .wait import wait_until


class Redis:
    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="sluice-redis.", dir="/tmp")
        self.socket = f"{self.folder}/redis"
        self.url = f"unix://{self.socket}"
        self.process = None

    def start(self):
        self.process = spawn(
            ["redis-server", "--port", "0", "--unixsocket", self.socket, "--save", "", "--appendonly", "no"],
            stdout=subprocess.DEVNULL,
            cwd=self.folder,
        )
        wait_until(self._answers, what="Redis is up")
        return self

    def _answers(self):
        try:
            return self.client().ping()
        except redis.RedisError:
            return False

    def client(self):
        return redis.Redis(unix_socket_path=self.socket, socket_timeout=5)

    def stop(self):
        """Ends it at once; what it held is gone."""
        if self.process is not None:
            self.thaw()
            self.process.kill()
            self.process.wait()
            self.process = None
            if os.path.exists(self.socket):
                os.unlink(self.socket)

    def freeze(self):
        os.kill(self.process.pid, signal.SIGSTOP)

    def thaw(self):
        os.kill(self.process.pid, signal.SIGCONT)

    def destroy(self):
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


class Postgres:
    """PostgreSQL refuses to be root, so as root it runs as user postgres."""

    USER = "sluice"

    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="sluice-pg.", dir="/tmp")
        self.bin = sorted(glob.glob("/usr/lib/postgresql/*/bin"))[-1]
        self.log_path = f"{self.folder}/log"
        self.process = None
        if os.geteuid() == 0:
            shutil.chown(self.folder, "postgres", "postgres")
        made = spawn(
            [f"{self.bin}/initdb", "-D", f"{self.folder}/data", "-U", self.USER, "-A", "trust"]
            + ["-E", "UTF8", "--no-locale", "--no-sync"],
            user="postgres",
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        output, _ = made.communicate()
        assert made.returncode == 0, output.decode()

    def url(self, database):
        return f"postgresql:///{database}?host={self.folder}&user={self.USER}"

    def start(self):
        with open(self.log_path, "ab") as log:
            self.process = spawn(
                [f"{self.bin}/postgres", "-D", f"{self.folder}/data", "-k", self.folder]
                + ["-c", "listen_addresses=", "-c", "fsync=off", "-c", "log_statement=all"]
                + ["-c", "log_line_prefix=%m [%p] %d ", "-c", "max_connections=200"],
                user="postgres",
                cwd=self.folder,
                stdout=log,
                stderr=log,
            )
        wait_until(self._answers, 30, "PostgreSQL is up")
        return self

    def _answers(self):
        try:
            psycopg2.connect(self.url("postgres")).close()
            return True
        except psycopg2.OperationalError:
            return False

    def stop(self):
        """An orderly end, without waiting for clients to leave."""
        if self.process is not None:
            self.thaw()
            self.process.send_signal(signal.SIGINT)
            self.process.wait(30)
            self.process = None

    def kill(self):
        """A crash: no connection is closed in an orderly way, recovery runs at the next start."""
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait(30)
        self.process = None

    def freeze(self):
        signal_family(self.process.pid, signal.SIGSTOP)

    def thaw(self):
        signal_family(self.process.pid, signal.SIGCONT)

    def create_database(self, name):
        connection = psycopg2.connect(self.url("postgres"))
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(f'create database "{name}"')
        connection.close()
        return self.url(name)

    def log_mark(self):
        return os.path.getsize(self.log_path)

    def statements_since(self, mark, database):
        """The statements of one database in the server's log since `mark`, in lower case."""
        with open(self.log_path, "rb") as log:
            log.seek(mark)
            lines = log.read().decode("utf-8", "replace").splitlines()
        return [
            line.split("LOG:", 1)[1].strip().lower()
            for line in lines
            if f"] {database} LOG:" in line and (" statement:" in line or " execute " in line)
        ]

    def destroy(self):
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)
