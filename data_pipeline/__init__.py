"""Data, from clips to batches: sources, annotation, record building and loading."""
