"""Real robots, one file each."""
