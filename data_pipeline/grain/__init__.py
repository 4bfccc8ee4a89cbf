"""Data sets on disk -> batches. Numpy only; nothing here computes with JAX."""
