"""Sections of the report, each a file that prepares it beside the template that shows it."""
