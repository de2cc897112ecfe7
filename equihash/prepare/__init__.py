"""Making or downloading the data: a module for each sub-command of prepare_data.py."""
