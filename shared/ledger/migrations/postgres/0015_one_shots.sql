-- Overrides: one stage of one deletion may pass one belt. Few at a time; kept to be read afterwards.
CREATE TABLE one_shots (
    id         bigint PRIMARY KEY,
    good_until bigint NOT NULL,
    ended      boolean NOT NULL DEFAULT false,           -- taken back, or of a stage that is over
    body       text NOT NULL
);
CREATE INDEX one_shots_good ON one_shots (id) WHERE NOT ended;
