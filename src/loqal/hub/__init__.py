"""Names to files: the catalog, the models on this machine, and fetching those that are not."""
