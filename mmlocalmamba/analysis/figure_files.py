"""Where the tools that draw write their figures: PNG and SVG, by the suffix of the file."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

SUFFIXES = ('.png', '.svg')


def add_out_argument(parser: argparse.ArgumentParser, default: str) -> None:
    """Add ``--out``, which takes one file or more, and ``--dpi``."""
    parser.add_argument(
        '--out',
        nargs='+',
        type=figure_path,
        default=[Path(default)],
        metavar='FILE',
        help=f'files to write, .png or .svg or both (default: {default})',
    )
    parser.add_argument('--dpi', type=int, default=150, help='pixels per inch of PNG files (default: 150)')


def figure_path(text: str) -> Path:
    """Take the path of a figure, for argparse.

    Raises:
        argparse.ArgumentTypeError: If its suffix is neither ``.png`` nor ``.svg``, or there is no such folder.
    """
    path = Path(text)
    if path.suffix.lower() not in SUFFIXES:
        raise argparse.ArgumentTypeError(f'{text!r} must end in {" or ".join(SUFFIXES)}')
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f'there is no folder {str(path.parent)!r} for {path.name}: make it first')
    return path


def save_figure(figure: Figure, paths: Iterable[Path], dpi: int) -> None:
    """Write a figure to every path; the text of an SVG stays text, which can be searched and edited."""
    with matplotlib.rc_context({'svg.fonttype': 'none'}):
        for path in paths:
            figure.savefig(path, dpi=dpi)
