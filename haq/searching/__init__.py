"""Search for a policy: proposals of a method, their evaluation, and the run folder with the results."""
