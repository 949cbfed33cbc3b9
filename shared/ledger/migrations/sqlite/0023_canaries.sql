-- What has to be refused, asked once a day, and what came of it. The last runs are kept; the last one is what stands.
CREATE TABLE canaries (
    id   INTEGER PRIMARY KEY,
    run  INTEGER NOT NULL,
    body TEXT    NOT NULL
) STRICT;
CREATE INDEX canaries_by_run ON canaries (run, id);
