"""Training: one loop for every phase, pure steps, and one file a stage."""
