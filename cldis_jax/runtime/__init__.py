"""Machines and files: checkpoints, meshes, signals, reports, pictures. Independent of the method."""
