-- What coordinators signed of the audit chains; the same is kept outside the database. Append-only.
CREATE TABLE signed_checkpoints (
    number    bigint PRIMARY KEY CHECK (number >= 1),
    body      text   NOT NULL,
    key_id    text   NOT NULL,
    signature text   NOT NULL
);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON signed_checkpoints
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- How far each chain stands in them: what has grown since is found by comparing with its head. Only a hint for whoever
-- signs next; what was signed stands in the bodies.
CREATE TABLE attested (
    chain text COLLATE "C" PRIMARY KEY,                  -- 'pauses', a resource, or 'd-' and the number of a deletion
    seq   bigint NOT NULL CHECK (seq >= 1)
) WITH (fillfactor = 80);
