"""Refuses versions of torch and of the mm packages that the plugin does not work with, when it is imported."""

from importlib.metadata import PackageNotFoundError, version
from itertools import takewhile


def check_versions(supported: dict[tuple[str, ...], tuple[str, str]]) -> None:
    """Check every installed distribution against its range; one that is not installed is no error.

    Args:
        supported: Alternative distribution names -> (lowest version, first version that is too new).

    Raises:
        ImportError: If an installed version is out of its range. The message names the range and how to get it.
    """
    for names, (lowest, too_new) in supported.items():
        for name in names:
            try:
                found = version(name)
            except PackageNotFoundError:
                continue
            if not release_numbers(lowest) <= release_numbers(found) < release_numbers(too_new):
                raise ImportError(
                    f'mmlocalmamba works with {name}>={lowest},<{too_new}, but {name}=={found} is installed. '
                    f'Install one that fits: pip install "{name}>={lowest},<{too_new}"'
                )


def release_numbers(text: str) -> tuple[int, ...]:
    """Give the release numbers of a version: '2.14.1+cu130' -> (2, 14, 1), '1.0.0rc4' -> (1, 0, 0)."""
    release = text.split('+')[0].split('.')
    digits = [''.join(takewhile(str.isdigit, part)) for part in release]
    return tuple(int(part) for part in takewhile(bool, digits))
