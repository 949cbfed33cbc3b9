-- What is compared with what was seen of this ledger, to notice that it has gone back in time (see `confront`).
ALTER TABLE ledger
    ADD COLUMN checkpoints   bigint NOT NULL DEFAULT 0,   -- grows with every checkpoint, one a second and coordinator
    ADD COLUMN checkpoint_at bigint NOT NULL DEFAULT 0,
    ADD COLUMN review        text;                        -- set while nothing is dispatched: what a person has to accept

-- Which record it is: a database that was set back gives numbers again, and records are remembered by number.
ALTER TABLE deletions ADD COLUMN created_at bigint NOT NULL DEFAULT 0;
UPDATE deletions d SET created_at = (r.body::json->>'created_at')::bigint FROM records r WHERE r.deletion_id = d.id;
ALTER TABLE deletions ALTER COLUMN created_at DROP DEFAULT;
