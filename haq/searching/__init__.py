"""The search: a method proposes, an evaluation answers, a run folder keeps it."""
