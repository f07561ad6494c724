"""Images decoded by NVIDIA DALI."""
