-- Holds on resources: whether or not there is a record. Numbered by the event that placed them in the resource's chain.
CREATE TABLE resource_holds (
    resource TEXT NOT NULL REFERENCES resources (id),
    id       INTEGER NOT NULL,
    body     TEXT NOT NULL,
    PRIMARY KEY (resource, id)
) STRICT, WITHOUT ROWID;
