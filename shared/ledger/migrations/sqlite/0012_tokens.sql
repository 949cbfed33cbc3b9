-- Who may ask the API for something. Of a token only the SHA-256 of its 256 random bits is here. `body` says whose it is.
CREATE TABLE tokens (
    name       TEXT    NOT NULL PRIMARY KEY,      -- given once, and never again
    hash       BLOB    NOT NULL UNIQUE CHECK (length(hash) = 32),
    expires_at INTEGER NOT NULL,
    revoked    INTEGER NOT NULL DEFAULT 0 CHECK (revoked IN (0, 1)),
    body       TEXT    NOT NULL
) STRICT;
CREATE TRIGGER tokens_are_never_removed BEFORE DELETE ON tokens
    BEGIN SELECT RAISE(ABORT, 'a token is revoked, and never removed'); END;

-- The end of the chain of tokens and refusals: one row.
CREATE TABLE access (
    one  INTEGER PRIMARY KEY CHECK (one = 1),
    seq  INTEGER NOT NULL,
    head BLOB    NOT NULL CHECK (length(head) = 32)
) STRICT;
INSERT INTO access (one, seq, head) VALUES (1, 0, zeroblob(32));
