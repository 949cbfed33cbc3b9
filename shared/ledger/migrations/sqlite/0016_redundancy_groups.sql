-- Which groups resources state to belong to now: what their body says, to be found by the group.
CREATE TABLE redundancy_groups (
    resource TEXT NOT NULL REFERENCES resources (id),
    name     TEXT NOT NULL,
    PRIMARY KEY (resource, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX redundancy_groups_by_name ON redundancy_groups (name);

INSERT INTO redundancy_groups (resource, name)
SELECT DISTINCT r.id, g.value FROM resources AS r, json_each(r.body, '$.groups') AS g;
