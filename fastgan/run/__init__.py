"""What surrounds the training of a run: its folder, log, snapshots, pictures, metrics and progress."""
