"""Explanation of the policy of a finished search, from the files of its run."""
