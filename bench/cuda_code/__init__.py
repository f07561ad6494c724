"""The CUDA code of a preset's phases, made without a GPU, counted and compiled to machine code:
`bench cuda-code`.
"""
