"""Programs of ``torch.export``: a model as a graph in a file, for images of any size and batches of any number."""

from __future__ import annotations

import zipfile
from pathlib import Path

import torch
from torch import Tensor, nn

IMPORTS_FILE = 'imports.txt'
"""File in the archive that says what must be imported before it is loaded."""

IMPORTS = 'import torch, mmlocalmamba.ops\n'

LARGEST = 8192
"""Largest height, width and batch size that a program takes."""


def export_program(module: nn.Module, image: Tensor, dynamic: bool = True) -> torch.export.ExportedProgram:
    """Record a module as a program.

    Args:
        module: Maps images to a tuple of tensors; in evaluation mode.
        image: Images (B, C, H, W) to record with; with ``dynamic``, B of 2 or more, and sides of at least 65 pixels.
        dynamic: Whether the program takes any batch size, and any height and width from 33 pixels (more than one
            stride of the last map) up to :data:`LARGEST`. Default: yes.

    Raises:
        ValueError: If the images do not suffice to record with.
    """
    shapes = None
    if dynamic:
        if image.shape[0] < 2 or min(image.shape[-2:]) < 65:
            raise ValueError(
                f'to record a program for any size, give 2 images or more of at least 65 x 65 pixels: these are '
                f'{tuple(image.shape)}. A dimension of 1 would be taken for a constant'
            )
        shapes = (
            {
                0: torch.export.Dim('batch', min=1, max=LARGEST),
                2: torch.export.Dim('height', min=33, max=LARGEST),
                3: torch.export.Dim('width', min=33, max=LARGEST),
            },
        )
    with torch.no_grad():
        return torch.export.export(module, (image,), dynamic_shapes=shapes)


def save_program(program: torch.export.ExportedProgram, path: str | Path) -> None:
    """Write a program as a ``.pt2`` file, which also says what must be imported before it is loaded."""
    torch.export.save(program, path, extra_files={IMPORTS_FILE: IMPORTS})


def read_imports(path: str | Path) -> str:
    """Read from a ``.pt2`` file of :func:`save_program` what must be imported before it is loaded."""
    with zipfile.ZipFile(path) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(IMPORTS_FILE))
        return archive.read(name).decode()


def program_difference(path: str | Path, module: nn.Module, image: Tensor) -> float:
    """Give the largest absolute difference between a file's outputs and a module's for images (B, C, H, W)."""
    with torch.no_grad():
        got, want = torch.export.load(path).module()(image), module(image)
    return max(float((a - b).abs().max()) for a, b in zip(got, want, strict=True))
