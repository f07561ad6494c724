"""Any source packed into one mapped file, decoded by several processes."""
