"""Scores of a trained model: the metrics by name, what each needs, floors and tables."""
