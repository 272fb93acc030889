"""Training: the compiled program, the loop and the workdir."""
