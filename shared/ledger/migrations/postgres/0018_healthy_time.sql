-- When somebody could last have cancelled, and when nobody could: that is no part of a grace.
ALTER TABLE ledger
    ADD COLUMN beat_at        bigint NOT NULL DEFAULT 0,  -- the last heartbeat of a coordinator that serves the API
    ADD COLUMN outages_change bigint NOT NULL DEFAULT 0;  -- grows when outages change: what is remembered of them is old

-- Only a running coordinator writes checkpoints. What was before the last one, nobody kept: it counts as healthy.
UPDATE ledger SET beat_at = CASE WHEN checkpoint_at > 0 THEN checkpoint_at
    ELSE (extract(epoch FROM clock_timestamp()) * 1000000)::bigint END;

CREATE TABLE outages (
    began bigint PRIMARY KEY,                             -- the last heartbeat before it
    ended bigint NOT NULL CHECK (ended > began)           -- the first one after it
);
