"""Measures: pure functions of features, labels and probabilities."""
