"""Engines: what runs a network with a policy on it, by which library, and the choice between them."""
