"""The paper: losses, feedback and the optimiser step, as functions of arrays and models."""
