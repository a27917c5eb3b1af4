"""Published weights: the catalog, their files, other packages."""
