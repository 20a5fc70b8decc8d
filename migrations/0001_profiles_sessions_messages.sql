-- The three tables of a chat: profiles, sessions, messages.
--
-- Every key and every index begins with the user's id: a session or message id of another user
-- names nothing. Ids are compared byte by byte (collate "C"), so no index depends on the
-- operating system's collation version.

create table user_profiles (
    user_id    text collate "C" primary key,
    profile    json not null,           -- json, not jsonb: the text comes back as it went in
    updated_at timestamptz not null default now()
);

create table chat_sessions (
    user_id    text collate "C" not null,
    id         uuid not null,
    title      text,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    primary key (user_id, id)
);

-- the list of sessions, newest activity first
create index chat_sessions_by_activity
    on chat_sessions (user_id, updated_at desc, id desc);

create table chat_messages (
    user_id           text collate "C" not null,
    session_id        uuid not null,
    id                uuid not null,
    turn_id           uuid not null,
    role              text not null
                      constraint chat_messages_role check (role in ('user', 'assistant')),
    status            text not null
                      constraint chat_messages_status check (
                          status in ('complete', 'stopped', 'cancelled', 'interrupted', 'failed')),
    content           text not null,
    model             text,
    finish_reason     text,
    prompt_tokens     integer,
    completion_tokens integer,
    ttft_ms           double precision,
    created_at        timestamptz not null,
    primary key (user_id, id),
    foreign key (user_id, session_id) references chat_sessions (user_id, id) on delete cascade
);

-- a session's newest messages; also what the cascade of a deleted session looks up
create index chat_messages_by_time
    on chat_messages (user_id, session_id, created_at desc, id desc);
