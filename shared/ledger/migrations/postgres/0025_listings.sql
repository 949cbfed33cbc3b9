-- What instances are asked for a census, and the pages that have come of it: put away as soon as the census is judged, and of
-- no weight for any other decision. `id` is the number of its first order.
CREATE TABLE listings (
    id        bigint PRIMARY KEY,
    answer_by bigint NOT NULL,
    body      text NOT NULL
);
CREATE TABLE listing_pages (
    listing  bigint NOT NULL REFERENCES listings (id) ON DELETE CASCADE,
    instance text NOT NULL,
    page     bigint NOT NULL,
    body     text NOT NULL,
    PRIMARY KEY (listing, instance, page)
);
