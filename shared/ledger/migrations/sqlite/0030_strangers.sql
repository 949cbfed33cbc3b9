-- What the last census of each kind and scope that was believed has listed, and nobody had registered: findings for a person.
-- At most a thousand of each; the census counts all. Of no weight for any decision.
CREATE TABLE strangers (
    scope      TEXT    NOT NULL,
    resource   TEXT    NOT NULL,
    kind       TEXT    NOT NULL,
    census     INTEGER NOT NULL,
    first_seen INTEGER NOT NULL,
    body       TEXT    NOT NULL,
    PRIMARY KEY (scope, resource)
) STRICT, WITHOUT ROWID;
