"""The steps of the chain, one script each, and the command line."""
