"""The report: tables, figures and one page."""
