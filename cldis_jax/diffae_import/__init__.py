"""Published Diff-AE weights as a workdir of this package."""
