"""Speed, measured by pytest-benchmark; collected only where it is named: ``pytest bench/ --benchmark-only``."""
