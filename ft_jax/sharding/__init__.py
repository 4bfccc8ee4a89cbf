"""Where arrays live: logical axis names, the tables that map them, the mesh, the constraints."""
