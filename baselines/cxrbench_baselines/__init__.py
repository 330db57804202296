"""Reference generators and classifiers, registered through the same entry points as anybody's."""
