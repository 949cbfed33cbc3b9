-- What is held is gone through by id: a look that finds it still held changes nothing in it.
DROP INDEX jobs_held;
CREATE INDEX jobs_held ON jobs (id) WHERE held;
