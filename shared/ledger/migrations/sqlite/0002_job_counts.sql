-- Jobs by state, kept by the writer: counting millions of finished jobs for every look at the health would
-- read the whole table.
CREATE TABLE job_counts (
    state INTEGER PRIMARY KEY CHECK (state BETWEEN 0 AND 9),
    jobs  INTEGER NOT NULL CHECK (jobs >= 0)
) STRICT;
INSERT INTO job_counts (state, jobs)
    SELECT s.value, (SELECT count(*) FROM jobs AS j WHERE j.state = s.value)
    FROM json_each('[0,1,2,3,4,5,6,7,8,9]') AS s;
