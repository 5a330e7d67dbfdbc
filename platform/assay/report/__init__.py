"""Evidence a person can look at: tables, figures, one page."""
