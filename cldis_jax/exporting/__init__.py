"""A trained model as a folder to share."""
