-- When somebody could last have cancelled, and when nobody could: that is no part of a grace.
ALTER TABLE ledger ADD COLUMN beat_at INTEGER NOT NULL DEFAULT 0;         -- the last heartbeat of a coordinator that serves the API

-- Only a running coordinator writes checkpoints. What was before the last one, nobody kept: it counts as healthy.
UPDATE ledger SET beat_at = iif(checkpoint_at > 0, checkpoint_at, unixepoch() * 1000000);

CREATE TABLE outages (
    began INTEGER PRIMARY KEY,                    -- the last heartbeat before it
    ended INTEGER NOT NULL CHECK (ended > began)  -- the first one after it
) STRICT;
