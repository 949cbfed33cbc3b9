-- Copies of consumers, each with what it can do at once and what it has done: credit is derived from that.
CREATE TABLE copies (
    instance    text COLLATE "C" NOT NULL,
    copy        text COLLATE "C" NOT NULL,
    hands       integer NOT NULL CHECK (hands >= 1),
    answered    bigint  NOT NULL CHECK (answered >= 0),
    answered_at bigint,
    pulsed_at   bigint  NOT NULL,
    PRIMARY KEY (instance, copy)
) WITH (fillfactor = 50);
