"""HTTP routes of the service, one protocol a file."""
