-- An answer is looked for among all runs that are kept: an acceptance that comes after a newer run is one all the same.
CREATE INDEX canaries_by_fence ON canaries (body ->> '$.fence.number');

-- The last drill with each resource, and what came of it.
CREATE TABLE drills (
    resource TEXT PRIMARY KEY,
    body     TEXT NOT NULL
) STRICT, WITHOUT ROWID;
