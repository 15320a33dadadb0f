"""Networks: loading, built-in models, weight files, and the layers that a run of the network shows."""
