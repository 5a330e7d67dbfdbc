"""The decision log: what the service answered, in hash-chained files that show what was changed or removed."""
