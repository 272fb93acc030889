"""What a config costs: parameters, FLOPs, memory and time, here or on devices that are not present."""
