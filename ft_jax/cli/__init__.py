"""Command lines: flags, checks and one call each; everything else lives below."""
