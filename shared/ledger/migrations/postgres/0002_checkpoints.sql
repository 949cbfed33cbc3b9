-- What is compared with what was seen of this ledger, to notice that it has gone back in time (see `confront`).
ALTER TABLE ledger
    ADD COLUMN checkpoints   bigint NOT NULL DEFAULT 0,   -- grows with every checkpoint, one a second and coordinator
    ADD COLUMN checkpoint_at bigint NOT NULL DEFAULT 0,
    ADD COLUMN review        text;                        -- set while nothing is dispatched: what a person has to accept
