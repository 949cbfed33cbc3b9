-- Of the few resources that are protected, those of a batch are looked for by their names.
CREATE INDEX protected_resources ON resources (id) WHERE protected;
