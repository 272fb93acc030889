"""The tables of the study: the cells of a table, running them, their records, and the table of those records."""
