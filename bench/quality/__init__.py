"""What the presets learn: each trained from fixed seeds, with a metric over seconds and over images
(`python -m bench quality`).
"""
