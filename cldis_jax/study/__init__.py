"""The tables of the study: what they are made of, how a cell is run, and how results become a table."""
