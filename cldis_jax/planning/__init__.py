"""The cost of a config: parameters, FLOPs, memory and time, on the devices present or on absent ones."""
