-- Schema 2: what routing has learned, and why an attempt went to its bot. A program of schema 1 works
-- with it: it writes attempts without a reason, and learns by itself.

-- A bot on one kind of work; `task_type` -1 is all of them, where only `success_rate` counts.
CREATE TABLE learned (
    bot          INTEGER NOT NULL,  -- names.id
    task_type    INTEGER NOT NULL,
    samples      INTEGER NOT NULL,
    seconds      REAL NOT NULL,
    success_rate REAL NOT NULL,
    updated_at   INTEGER NOT NULL,  -- in microseconds since 1970
    sum          INTEGER NOT NULL,
    PRIMARY KEY (bot, task_type)
) STRICT, WITHOUT ROWID;

-- JSON, see brain::route::Weighing. With a sum of its own: that of the row is as it was.
ALTER TABLE attempts ADD COLUMN choice TEXT;
ALTER TABLE attempts ADD COLUMN choice_sum INTEGER;
