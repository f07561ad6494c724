"""The surroundings of training: a run's folder, log, snapshots, pictures, metrics and progress."""
