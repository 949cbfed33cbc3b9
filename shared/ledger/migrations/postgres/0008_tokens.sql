-- Who may ask the API for something. Of a token only the SHA-256 of its 256 random bits is here. `body` says whose it is.
CREATE TABLE tokens (
    name       text COLLATE "C" PRIMARY KEY,             -- given once, and never again
    hash       bytea   NOT NULL UNIQUE CHECK (length(hash) = 32),
    expires_at bigint  NOT NULL,
    revoked    boolean NOT NULL DEFAULT false,
    body       text    NOT NULL
);
CREATE TRIGGER never_removed BEFORE DELETE OR TRUNCATE ON tokens
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- The end of the chain of tokens and refusals: one row.
CREATE TABLE access (
    one  boolean PRIMARY KEY DEFAULT true CHECK (one),
    seq  bigint  NOT NULL,
    head bytea   NOT NULL CHECK (length(head) = 32)
);
INSERT INTO access (seq, head) VALUES (0, decode(repeat('00', 32), 'hex'));
