"""What a run will cost, before it runs: seconds and memory of every trial."""
