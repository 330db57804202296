"""The report: pure functions of the store, made anew every time."""
