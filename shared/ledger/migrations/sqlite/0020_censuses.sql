-- Complete listings that were believed: how many of a kind there are, and what did not fit the inventory.
CREATE TABLE censuses (
    id          INTEGER PRIMARY KEY,
    kind        TEXT    NOT NULL,
    scope       TEXT    NOT NULL,
    accepted_at INTEGER NOT NULL,
    body        TEXT    NOT NULL
) STRICT;
CREATE INDEX censuses_by_scope ON censuses (kind, scope, id);
