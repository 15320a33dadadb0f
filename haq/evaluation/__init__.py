"""From a policy to its accuracy: engines, corrections, and the store that keeps what was measured."""
