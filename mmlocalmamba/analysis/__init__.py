"""Looking into models: what they cost, see and scan."""
