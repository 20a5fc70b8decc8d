"""The reads use their indexes, as EXPLAIN says with many users and long conversations about."""

import pytest
from harness.db import Database
from harness.gateway import migrate

READS = {
    "history": (
        "select id, role, content from chat_messages where user_id = 'user-7' and session_id = '{session}'"
        " and (created_at, id) < ('infinity', 'ffffffff-ffff-ffff-ffff-ffffffffffff')"
        " order by created_at desc, id desc limit 10",
        "chat_messages_by_time",
    ),
    "sessions": (
        "select id, title from chat_sessions where user_id = 'user-7'"
        " and (updated_at, id) < ('infinity', 'ffffffff-ffff-ffff-ffff-ffffffffffff')"
        " order by updated_at desc, id desc limit 50",
        "chat_sessions_by_activity",
    ),
    "profile": ("select profile from user_profiles where user_id = 'user-7'", "user_profiles_pkey"),
    "a message again": (
        "select 1 from chat_messages where user_id = 'user-7' and id = '{session}'",
        "chat_messages_pkey",
    ),
}


@pytest.fixture(scope="module")
def crowd(postgres):
    """2,000 users; user-7 has 500 sessions, and everybody 10 messages in each of theirs."""
    url = postgres.create_database("crowd")
    assert migrate(url).returncode == 0
    database = Database(url)
    database.query("insert into user_profiles select 'user-' || u, '{}' from generate_series(1, 2000) u")
    database.query(
        "insert into chat_sessions select 'user-' || u, gen_random_uuid(), null, now(), now() - s * interval '1 h'"
        " from generate_series(1, 2000) u, generate_series(1, case u when 7 then 500 else 3 end) s"
    )
    database.query(
        "insert into chat_messages (user_id, session_id, id, turn_id, role, status, content, created_at)"
        " select user_id, id, gen_random_uuid(), gen_random_uuid(), 'user', 'complete', repeat('x', 100),"
        " now() - m * interval '1 min' from chat_sessions, generate_series(1, 10) m"
    )
    database.query("analyze")
    return database


@pytest.mark.parametrize("read", READS)
def test_a_read_walks_its_index_and_sorts_nothing(crowd, read):
    sql, index = READS[read]
    (session,) = crowd.query("select id::text from chat_sessions where user_id = 'user-7' limit 1")
    rows = crowd.query("explain (costs off) " + sql.format(session=session["id"]))
    plan = "\n".join(row["QUERY PLAN"] for row in rows)
    assert index in plan, plan
    assert "Seq Scan" not in plan and "Sort" not in plan, plan


def test_every_index_begins_with_the_user(crowd):
    rows = crowd.query(
        "select indexname, indexdef from pg_indexes where schemaname = 'public' and tablename <> 'sluice_migrations'"
    )
    assert len(rows) >= 5
    for row in rows:
        assert row["indexdef"].split("(", 1)[1].startswith("user_id"), row
