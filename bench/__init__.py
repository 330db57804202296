"""What is measured beside the tests: speed, agreement, quality, verdicts. Each file says how it is run."""
