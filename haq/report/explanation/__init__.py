"""Why this policy: what a finished run makes one believe of it."""
