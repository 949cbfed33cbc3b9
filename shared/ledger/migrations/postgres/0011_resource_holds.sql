-- Holds on resources: whether or not there is a record. Numbered by the event that placed them in the resource's chain.
CREATE TABLE resource_holds (
    resource text COLLATE "C" NOT NULL REFERENCES resources (id),
    id       bigint NOT NULL,
    body     text NOT NULL,
    PRIMARY KEY (resource, id)
);
