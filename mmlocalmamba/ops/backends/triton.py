"""Placeholder until the C++ kernel lands."""
def why_not(device_type: str) -> str | None:
    return 'not built'
