"""Getting a public data set: the catalogue, the download, the unpacking, the manifest."""
