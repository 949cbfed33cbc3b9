-- Copies of consumers, each with what it can do at once and what it has done: credit is derived from that.
CREATE TABLE copies (
    instance    TEXT    NOT NULL,
    copy        TEXT    NOT NULL,
    hands       INTEGER NOT NULL CHECK (hands >= 1),
    answered    INTEGER NOT NULL CHECK (answered >= 0),
    answered_at INTEGER,
    pulsed_at   INTEGER NOT NULL,
    PRIMARY KEY (instance, copy)
) STRICT, WITHOUT ROWID;
