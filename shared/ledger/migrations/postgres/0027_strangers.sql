-- What the last census of each kind and scope that was believed has listed, and nobody had registered: findings for a person.
-- At most a thousand of each; the census counts all. Of no weight for any decision.
CREATE TABLE strangers (
    scope      text COLLATE "C" NOT NULL,
    resource   text COLLATE "C" NOT NULL,
    kind       text COLLATE "C" NOT NULL,
    census     bigint NOT NULL,
    first_seen bigint NOT NULL,
    body       text NOT NULL,
    PRIMARY KEY (scope, resource)
);
