-- Requests that were sent under a key: held by one attempt at a time, noted with what it changed, answered, forgotten.
CREATE TABLE request_keys (
    actor      text COLLATE "C" NOT NULL,
    key        text COLLATE "C" NOT NULL CHECK (length(key) BETWEEN 1 AND 128),
    request    bytea  NOT NULL CHECK (length(request) = 32),       -- the hash of what was asked for
    attempt    bigint NOT NULL CHECK (attempt > 0),
    first_sent bigint NOT NULL,
    held_until bigint NOT NULL,
    note       text,               -- written by the change itself, in its transaction, once
    status     smallint CHECK (status BETWEEN 200 AND 499),
    answer     text,
    PRIMARY KEY (actor, key),
    CHECK ((status IS NULL) = (answer IS NULL))
);
-- What is forgotten first.
CREATE INDEX request_keys_by_age ON request_keys (first_sent);

-- How many keys are kept of each actor: counting them would take longer the more there are.
CREATE TABLE request_actors (
    actor text COLLATE "C" PRIMARY KEY,
    keys  bigint NOT NULL CHECK (keys >= 0)
);

-- What only one resource at a time may be registered for, and which one was so last. Its row is the lock on that.
CREATE TABLE exclusives (
    name     text COLLATE "C" PRIMARY KEY,
    resource text COLLATE "C" NOT NULL REFERENCES resources (id)
);
