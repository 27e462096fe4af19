"""Loading weights: reading files and URLs, published names, and fitting tensors to a backbone."""
