-- Requests that were sent under a key: held by one attempt at a time, noted with what it changed, answered, forgotten.
CREATE TABLE request_keys (
    actor      TEXT    NOT NULL,
    key        TEXT    NOT NULL CHECK (length(key) BETWEEN 1 AND 128),
    request    BLOB    NOT NULL CHECK (length(request) = 32),      -- the hash of what was asked for
    attempt    INTEGER NOT NULL CHECK (attempt > 0),
    first_sent INTEGER NOT NULL,
    held_until INTEGER NOT NULL,
    note       TEXT,               -- written by the change itself, in its transaction, once
    status     INTEGER CHECK (status BETWEEN 200 AND 499),
    answer     TEXT,
    PRIMARY KEY (actor, key),
    CHECK ((status IS NULL) = (answer IS NULL))
) STRICT, WITHOUT ROWID;
-- What is forgotten first.
CREATE INDEX request_keys_by_age ON request_keys (first_sent);

-- How many keys are kept of each actor: counting them would take longer the more there are.
CREATE TABLE request_actors (
    actor TEXT    NOT NULL PRIMARY KEY,
    keys  INTEGER NOT NULL CHECK (keys >= 0)
) STRICT, WITHOUT ROWID;

-- What only one resource at a time may be registered for, and which one was so last.
CREATE TABLE exclusives (
    name     TEXT NOT NULL PRIMARY KEY,
    resource TEXT NOT NULL REFERENCES resources (id)
) STRICT, WITHOUT ROWID;
