-- What instances are asked for a census, and the pages that have come of it: put away as soon as the census is judged, and of
-- no weight for any other decision. `id` is the number of its first order.
CREATE TABLE listings (
    id        INTEGER PRIMARY KEY,
    answer_by INTEGER NOT NULL,
    body      TEXT    NOT NULL
) STRICT;
CREATE TABLE listing_pages (
    listing  INTEGER NOT NULL REFERENCES listings (id) ON DELETE CASCADE,
    instance TEXT    NOT NULL,
    page     INTEGER NOT NULL,
    body     TEXT    NOT NULL,
    PRIMARY KEY (listing, instance, page)
) STRICT;
