-- What came last of each kind and scope, believed or refused: that censuses are refused, or come no more, is told.
CREATE TABLE latest_censuses (
    kind        TEXT NOT NULL,
    scope       TEXT NOT NULL,
    believed_at INTEGER,
    refused_at  INTEGER,
    refused     TEXT,
    PRIMARY KEY (kind, scope),
    CHECK ((refused_at IS NULL) = (refused IS NULL))
) STRICT, WITHOUT ROWID;
INSERT INTO latest_censuses (kind, scope, believed_at)
    SELECT kind, scope, max(accepted_at) FROM censuses GROUP BY kind, scope;
