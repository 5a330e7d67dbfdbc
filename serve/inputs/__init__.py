"""What a caller sends, checked and brought into the form that a model takes."""
