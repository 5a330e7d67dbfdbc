"""Which inputs a prediction rests on, one method family a file."""
