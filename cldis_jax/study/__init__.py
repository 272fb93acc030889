"""The tables of the study: cells, their runs, their records, and the tables made from the records."""
