"""What of a study may leave: it is reserved before training, charged once, and refused beyond the budget."""
