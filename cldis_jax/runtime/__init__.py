"""Machines and files: checkpoints, meshes, signals, reports, pictures. Knows nothing of the method."""
