"""The device that a run is on: its precision, its choice of algorithms, its memory, its CUDA
graphs.
"""
