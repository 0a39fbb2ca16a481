-- Schema 1. What each number means stands in ../codes.rs; what each `sum` covers in ../sum.rs.
--
-- One narrow, hot row per task (`tasks`); what is written once and read seldom stands apart
-- (`bodies`, `attempts`, `results`), so that the hot tables and their indexes stay small and in
-- memory with a million tasks queued.

CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value INTEGER NOT NULL,
    sum   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Demands and bots, by number: they repeat in every row and every index entry.
CREATE TABLE names (
    id   INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    sum  INTEGER NOT NULL
) STRICT;

CREATE TABLE tasks (
    seq          INTEGER PRIMARY KEY,
    status       INTEGER NOT NULL,
    priority     INTEGER NOT NULL,
    demand       INTEGER NOT NULL,  -- names.id
    since        INTEGER NOT NULL,  -- it has waited since (queued), in microseconds since 1970
    not_before   INTEGER,           -- while scheduled
    ended_at     INTEGER,           -- while ended
    task_type    INTEGER NOT NULL,
    complexity   INTEGER NOT NULL,
    max_attempts INTEGER NOT NULL,
    timeout_ms   INTEGER NOT NULL,
    attempt      INTEGER NOT NULL,  -- the number of the last attempt, 0: none yet
    failures     INTEGER NOT NULL,
    losses       INTEGER NOT NULL,
    bot          INTEGER,           -- names.id: whose the last attempt was
    started_at   INTEGER,           -- of the last attempt
    only_bot     INTEGER,           -- names.id: only this bot may have it
    submitted_at INTEGER NOT NULL,
    id           TEXT NOT NULL,
    sum          INTEGER NOT NULL
) STRICT;

CREATE UNIQUE INDEX tasks_id ON tasks (id);
-- Each task is in at most three of these at a time, so that a million queued ones cost two entries each.
CREATE INDEX tasks_ready   ON tasks (demand, priority, seq) WHERE status = 1;
CREATE INDEX tasks_waiting ON tasks (since, seq)            WHERE status = 1;
CREATE INDEX tasks_due     ON tasks (not_before, seq)       WHERE status = 0;
CREATE INDEX tasks_running ON tasks (seq)                   WHERE status = 2;
CREATE INDEX tasks_ended   ON tasks (ended_at, seq)         WHERE ended_at IS NOT NULL;
CREATE INDEX tasks_failed  ON tasks (status, seq)           WHERE status = 4 OR status = 5 OR status = 6;

-- As submitted. `content` stands last: a row is read up to the column asked for.
CREATE TABLE bodies (
    seq          INTEGER PRIMARY KEY,
    request_hash BLOB NOT NULL,
    capabilities TEXT NOT NULL,     -- JSON array of texts
    pool         TEXT,
    metadata     TEXT,
    sum          INTEGER NOT NULL,
    content_sum  INTEGER NOT NULL,
    content      TEXT NOT NULL
) STRICT;

-- Ended attempts. The one that runs is in its task's row until it ends.
CREATE TABLE attempts (
    seq        INTEGER NOT NULL,
    attempt    INTEGER NOT NULL,
    bot        INTEGER NOT NULL,    -- names.id
    status     INTEGER NOT NULL,
    started_at INTEGER NOT NULL,
    ended_at   INTEGER NOT NULL,
    error      TEXT,
    sum        INTEGER NOT NULL,
    PRIMARY KEY (seq, attempt)
) STRICT, WITHOUT ROWID;

CREATE TABLE results (
    seq               INTEGER PRIMARY KEY,
    truncated         INTEGER NOT NULL,
    prompt_tokens     INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    backend           TEXT NOT NULL,
    model             TEXT,
    output_bytes      INTEGER NOT NULL,
    sum               INTEGER NOT NULL,
    output_sum        INTEGER NOT NULL,
    output            TEXT NOT NULL
) STRICT;
