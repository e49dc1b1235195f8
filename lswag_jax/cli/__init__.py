"""Command-line programs: thin absl binaries over the library."""
