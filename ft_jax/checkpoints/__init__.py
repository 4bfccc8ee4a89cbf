"""Weights and training states on disk: saved atomically, resumed exactly, handed over, shipped."""
