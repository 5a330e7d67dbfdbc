"""What a network provably does."""
