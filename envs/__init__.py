"""Bit allocation as a reinforcement-learning environment."""
