"""Labels beside files (dataset.json, csv), and sets of records (tar, parquet)."""
