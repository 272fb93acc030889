"""Images by index, from rendered scenes to prepared data sets."""
