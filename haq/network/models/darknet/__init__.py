"""Networks that Darknet's cfg files describe."""
