"""Reference classifiers."""
