"""From a configuration to a problem that is ready to be searched, and from a folder back to what a run left."""
