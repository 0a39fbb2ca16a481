-- Schema 3: messages. A program of schema 2 works with it, and knows nothing of them.

CREATE TABLE messages (
    seq          INTEGER PRIMARY KEY,
    id           TEXT NOT NULL,
    status       INTEGER NOT NULL,
    priority     INTEGER NOT NULL,
    from_bot     INTEGER NOT NULL,  -- names.id
    to_bot       INTEGER NOT NULL,  -- names.id
    created_at   INTEGER NOT NULL,  -- in microseconds since 1970, as all times
    expires_at   INTEGER NOT NULL,
    delivered_at INTEGER,
    read_at      INTEGER,
    ttl_seconds  INTEGER NOT NULL,
    bytes        INTEGER NOT NULL,  -- of the text and the metadata
    sum          INTEGER NOT NULL
) STRICT;

-- Apart, so that a change of the status writes no text again.
CREATE TABLE message_texts (
    seq      INTEGER PRIMARY KEY,
    metadata TEXT,                  -- a JSON object
    content  TEXT NOT NULL,
    sum      INTEGER NOT NULL
) STRICT;

CREATE UNIQUE INDEX messages_id ON messages (id);
-- 0 pending, 1 delivered: what can still be read, and expires.
CREATE INDEX messages_unread  ON messages (to_bot, priority, seq) WHERE status < 2;
CREATE INDEX messages_pending ON messages (to_bot, seq)           WHERE status = 0;
CREATE INDEX messages_expiry  ON messages (expires_at, seq)       WHERE status < 2;
CREATE INDEX messages_read    ON messages (to_bot, seq)           WHERE status = 2;
CREATE INDEX messages_done    ON messages (created_at, seq)       WHERE status >= 2;
CREATE INDEX messages_counts  ON messages (to_bot, status, priority);
CREATE INDEX messages_pair    ON messages (from_bot, to_bot, seq);
