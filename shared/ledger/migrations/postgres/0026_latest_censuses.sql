-- What came last of each kind and scope, believed or refused: that censuses are refused, or come no more, is told.
CREATE TABLE latest_censuses (
    kind        text COLLATE "C" NOT NULL,
    scope       text COLLATE "C" NOT NULL,
    believed_at bigint,
    refused_at  bigint,
    refused     text,
    PRIMARY KEY (kind, scope),
    CHECK ((refused_at IS NULL) = (refused IS NULL))
);
INSERT INTO latest_censuses (kind, scope, believed_at)
    SELECT kind, scope, max(accepted_at) FROM censuses GROUP BY kind, scope;
