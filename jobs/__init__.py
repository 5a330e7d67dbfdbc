"""Entry points: ``python -m jobs.NAME`` here, and the same under ``ray job submit``."""
