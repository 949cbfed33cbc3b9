-- What has to be refused, asked once a day, and what came of it. The last runs are kept; the last one is what stands.
CREATE TABLE canaries (
    id   bigint PRIMARY KEY,
    run  bigint NOT NULL,
    body text NOT NULL
);
CREATE INDEX canaries_by_run ON canaries (run, id);
