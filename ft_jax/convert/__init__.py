"""Weights of PyTorch programs to ours and back: one table per model, one engine (`table.py`)."""
