"""Quality of the presets: each trained from fixed seeds (`fastgan bench quality`).

A metric is taken over seconds and over images.
"""
