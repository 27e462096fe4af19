"""Loading weights: published names, and the one door that they come in by."""
