"""Reports of finished runs: plots and explanations, read from run folders."""
