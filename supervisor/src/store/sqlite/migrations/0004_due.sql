-- Schema 4: tasks that wait for their time, apart by the clock that they wait by. A program of schema 3 works
-- with it.

CREATE INDEX tasks_due_first ON tasks (not_before, seq) WHERE status = 0 AND attempt = 0;
CREATE INDEX tasks_due_again ON tasks (not_before, seq) WHERE status = 0 AND attempt > 0;
