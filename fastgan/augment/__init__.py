"""Augmentation of what D sees: plain, DiffAugment and ADA, made of pure functions of tensors."""
