-- What is compared with what was seen of this ledger, to notice that it has gone back in time (see `confront`).
ALTER TABLE ledger ADD COLUMN checkpoints INTEGER NOT NULL DEFAULT 0;     -- grows with every checkpoint, one a second
ALTER TABLE ledger ADD COLUMN checkpoint_at INTEGER NOT NULL DEFAULT 0;
ALTER TABLE ledger ADD COLUMN review TEXT;                                -- set while nothing is dispatched
