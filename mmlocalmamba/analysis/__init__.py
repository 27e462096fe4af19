"""Analysis of models: their parameters and FLOPs, and pictures of their scan directions."""
