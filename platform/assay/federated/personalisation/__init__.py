"""Personalisation: models that fit each client."""
