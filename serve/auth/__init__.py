"""Who may call: tokens of a file, JSON web tokens of other systems, what each allows, and how often."""
