"""What scores are worth: ground truth, rank correlation, LIBRA, the window of layers, figures."""
