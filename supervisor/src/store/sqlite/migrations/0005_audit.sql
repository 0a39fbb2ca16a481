-- Schema 5: the audit trail. A program of schema 4 works with it, and records nothing.
--
-- No `sum`: `hash` is over the whole record and the hash before it (audit/chain.rs). What the numbers of
-- action, level, source and result mean stands in audit.rs.

CREATE TABLE audit (
    seq     INTEGER PRIMARY KEY,
    at      INTEGER NOT NULL,       -- in microseconds since 1970
    action  INTEGER NOT NULL,
    level   INTEGER NOT NULL,
    source  INTEGER NOT NULL,
    result  INTEGER NOT NULL,
    actor   TEXT NOT NULL,
    target  TEXT NOT NULL,
    details TEXT,                   -- a JSON object
    error   TEXT,
    remote  TEXT,
    hash    BLOB NOT NULL
) STRICT;

CREATE INDEX audit_actor  ON audit (actor, seq);
CREATE INDEX audit_target ON audit (target, seq);
-- Without those that come with every task: they are found anywhere.
CREATE INDEX audit_action ON audit (action, seq) WHERE action <> 2 AND action <> 3;
CREATE INDEX audit_level  ON audit (level, seq)  WHERE level <> 0;

-- One row: where the chain begins, what was removed before that, and where it ends.
CREATE TABLE audit_chain (
    id          INTEGER PRIMARY KEY,
    anchor_seq  INTEGER NOT NULL,
    anchor_hash BLOB NOT NULL,
    removed     INTEGER NOT NULL,
    head_seq    INTEGER NOT NULL,
    head_hash   BLOB NOT NULL,
    sum         INTEGER NOT NULL
) STRICT;
