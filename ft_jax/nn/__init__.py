"""Leaves: the only modules that declare parameters. Each array is declared once, with its axes."""
