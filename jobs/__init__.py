"""The ways to run shardscore: the command line and its exit codes."""
