"""Getting the data: one module for each dataset, each behind a sub-command of prepare_data.py."""
