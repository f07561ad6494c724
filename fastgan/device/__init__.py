"""The device of a run: its precision, choice of algorithms, memory and CUDA graphs."""
