"""What a network computes, read from its traced program: layers, activations, features, products."""
