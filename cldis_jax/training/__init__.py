"""A run: the compiled program, the loop, and what a workdir keeps of it."""
