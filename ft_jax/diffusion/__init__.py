"""Flow matching: noise levels, solvers, guidance. Pure mathematics on arrays."""
