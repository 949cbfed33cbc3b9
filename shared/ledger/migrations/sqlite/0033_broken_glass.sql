-- Overrides that are over: who has broken the glass is told of as long as it would have been good, taken back or not.
CREATE INDEX one_shots_over ON one_shots (good_until) WHERE ended;
