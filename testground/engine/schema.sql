CREATE TABLE IF NOT EXISTS tasks (
    id       TEXT PRIMARY KEY,
    state    TEXT NOT NULL,
    priority INTEGER NOT NULL,
    created  REAL NOT NULL,
    document TEXT NOT NULL
) STRICT;

CREATE INDEX IF NOT EXISTS tasks_by_state ON tasks (state, priority DESC, created, id);
