"""Networks that compute in integers alone: every tensor is stored in codes, between layers too."""
