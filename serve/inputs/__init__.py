"""What a caller sends, read as the records that a model takes."""
