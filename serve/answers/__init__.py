"""What a request gets: predictions, prediction sets, abstention, explanations and certificates."""
