"""What a training does beside its steps, one hook a file."""
