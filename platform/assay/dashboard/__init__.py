"""The live page over results: all trials of some folders, as they come."""
