-- Schema 6: names of signed requests, so that each is taken once. A program of schema 5 works with it, and takes
-- no signed requests.

-- What is known of a key, which stands for one secret of one external bot.
CREATE TABLE signers (
    key   INTEGER PRIMARY KEY,
    floor INTEGER NOT NULL,         -- nothing that was signed up to then is taken; in microseconds since 1970
    held  INTEGER NOT NULL,         -- its rows in `nonces`
    sum   INTEGER NOT NULL
) STRICT;

CREATE TABLE nonces (
    key       INTEGER NOT NULL,     -- signers.key
    id        TEXT NOT NULL,
    signed_at INTEGER NOT NULL,
    sum       INTEGER NOT NULL,
    PRIMARY KEY (key, id)
) STRICT, WITHOUT ROWID;

CREATE INDEX nonces_signed ON nonces (signed_at);
