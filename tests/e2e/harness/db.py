"""What is in Postgres, as a test looks at it."""

import contextlib

import psycopg2
import psycopg2.extras

from .wait import wait_until


class Database:
    def __init__(self, url):
        self.url = url

    def query(self, sql, *parameters):
        connection = psycopg2.connect(self.url)
        try:
            with connection, connection.cursor(cursor_factory=psycopg2.extras.RealDictCursor) as cursor:
                cursor.execute(sql, parameters)
                return [dict(row) for row in cursor.fetchall()] if cursor.description else []
        finally:
            connection.close()

    @contextlib.contextmanager
    def lock(self, sql):
        """Holds what `sql` takes until the block ends."""
        connection = psycopg2.connect(self.url)
        try:
            with connection.cursor() as cursor:
                cursor.execute(sql)
            yield
        finally:
            connection.close()

    def messages(self, user, session=None):
        """In the order in which they were said."""
        return self.query(
            "select m.*, session_id::text as session_id, id::text as id, turn_id::text as turn_id"
            " from chat_messages m where user_id = %s and (%s::uuid is null or session_id = %s::uuid)"
            " order by m.created_at, m.id",
            user,
            session,
            session,
        )

    def await_messages(self, user, count, session=None, timeout=10):
        """Waits until exactly `count` messages are there."""
        rows = wait_until(
            lambda: (found := self.messages(user, session)) and len(found) >= count and found,
            timeout,
            f"{count} messages of {user}",
        )
        assert len(rows) == count, rows
        return rows

    def await_turns(self, users, timeout=20):
        """{user: (question, answer)}, once every one of these users has exactly one turn."""

        def found():
            rows = self.query("select * from chat_messages where user_id = any(%s) order by created_at", users)
            return len(rows) >= 2 * len(users) and rows

        turns = {}
        for row in wait_until(found, timeout, f"{len(users)} turns"):
            turns.setdefault(row["user_id"], []).append(row)
        assert all(len(turn) == 2 for turn in turns.values()), turns
        return turns

    def sessions(self, user):
        return self.query("select s.*, id::text as id from chat_sessions s where user_id = %s order by created_at", user)

    def set_profile(self, user, profile):
        self.query(
            "insert into user_profiles (user_id, profile) values (%s, %s)"
            " on conflict (user_id) do update set profile = excluded.profile",
            user,
            psycopg2.extras.Json(profile),
        )
