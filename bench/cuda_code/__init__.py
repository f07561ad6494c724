"""The CUDA code of a preset's phases, generated without a GPU: `bench cuda-code`.

The code is counted and compiled to machine code.
"""
