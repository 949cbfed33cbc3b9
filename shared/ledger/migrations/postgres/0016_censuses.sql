-- Complete listings that were believed: how many of a kind there are, and what did not fit the inventory.
CREATE TABLE censuses (
    id          bigint PRIMARY KEY,
    kind        text COLLATE "C" NOT NULL,
    scope       text COLLATE "C" NOT NULL,
    accepted_at bigint NOT NULL,
    body        text NOT NULL
);
CREATE INDEX censuses_by_scope ON censuses (kind, scope, id);
