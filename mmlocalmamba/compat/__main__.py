"""``python -m mmlocalmamba.compat enable | disable | status``: the mmcv._ext stand-in for programs of others.

With it enabled, ``python -c "from mmdet.apis import DetInferencer"`` works in this environment although mmcv's compiled
operators are missing. A compiled mmcv, installed before or after, always goes first.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from . import ext_state
from .startup import disable, enable, is_enabled, site_dir


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status (``status``: 0 if enabled, 1 if not)."""
    parser = argparse.ArgumentParser(prog='python -m mmlocalmamba.compat', description=__doc__)
    parser.add_argument('command', choices=['enable', 'disable', 'status'])
    parser.add_argument('--site-dir', type=Path, help="site-packages folder (default: this environment's)")
    args = parser.parse_args(arguments)
    folder = args.site_dir or site_dir()
    if args.command == 'enable':
        enable(folder)
        sys.stdout.write(f'enabled in {folder}: every Python of this environment now finds the stand-in\n')
    elif args.command == 'disable':
        removed = disable(folder)
        sys.stdout.write(f'{"disabled" if removed else "was not enabled"} in {folder}\n')
    else:
        sys.stdout.write(f'{"enabled" if is_enabled(folder) else "not enabled"} in {folder}\n')
        sys.stdout.write(f'mmcv._ext in this process: {ext_state()}\n')
        return 0 if is_enabled(folder) else 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
