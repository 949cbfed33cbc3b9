-- What each resource has to itself by what it states, in any scope: names with addresses, addresses, network cards. One row for
-- each claim; of one with a live record also what the record states as its copy.
CREATE TABLE claims (
    name     TEXT NOT NULL,
    resource TEXT NOT NULL REFERENCES resources (id),
    PRIMARY KEY (name, resource)
) STRICT, WITHOUT ROWID;
CREATE INDEX claims_of_resources ON claims (resource);

-- Which statements are claims is said by the files of subsystems, which no SQL reads: a coordinator that finds another text here
-- goes once through all resources.
CREATE TABLE claimable (
    one      INTEGER NOT NULL PRIMARY KEY DEFAULT 1 CHECK (one = 1),
    declared TEXT    NOT NULL
) STRICT;
