-- Which groups resources state to belong to now: what their body says, to be found by the group.
CREATE TABLE redundancy_groups (
    resource text COLLATE "C" NOT NULL REFERENCES resources (id),
    name     text COLLATE "C" NOT NULL,
    PRIMARY KEY (resource, name)
);
CREATE INDEX redundancy_groups_by_name ON redundancy_groups (name);

INSERT INTO redundancy_groups (resource, name)
SELECT DISTINCT r.id, g.name FROM resources r, json_array_elements_text(r.body::json -> 'groups') AS g (name);
