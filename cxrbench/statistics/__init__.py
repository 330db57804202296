"""Gains with honest intervals, verdicts, and what they rest on: pure functions of scores and predictions."""
