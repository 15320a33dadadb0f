"""Files of runs: folders, records, locks, caches, and the environment that a run was made in."""
