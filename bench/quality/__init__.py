"""Quality of the presets: each trained from fixed seeds (`python -m bench quality`).

A metric is taken over seconds and over images.
"""
