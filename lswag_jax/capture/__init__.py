"""What a network computes, read from its traced program."""
