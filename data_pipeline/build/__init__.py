"""Clips -> data sets on disk: `python -m data_pipeline.build pixels|records`."""
