"""HTML page that reports on finished runs, made from the files in their folders."""
