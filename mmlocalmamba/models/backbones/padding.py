"""What a batch's padding does: part of every scan, or left out, so that an image's maps are those of it alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

PADDINGS = ('scan', 'skip')
"""What backbones take as ``padding``."""


def check_padding(padding: str) -> None:
    """Raise a ValueError unless ``padding`` is one of :data:`PADDINGS`."""
    if padding not in PADDINGS:
        raise ValueError(
            f"padding={padding!r} is unknown: 'scan' scans the zeros of a batch's padding, 'skip' leaves them out"
        )


def image_sizes(images: Tensor, smallest: int = 1) -> list[tuple[int, int]]:
    """Tell each image's own size, without the zeros that a batch is padded with at the bottom and on the right.

    Sizes are read off the batch itself. So they are right for whatever made the batch, and for any crop of it, such as
    a sliding window's. An image of nothing but zeros counts as a whole one: there is no telling it from padding, and
    nothing to see in it.

    Args:
        images: (B, channels, H, W), normalised before they were padded, as the preprocessors of the mm packages do.
        smallest: Least side to tell, where the batch has it: that of a patch.

    Returns:
        The height and width of each image in pixels.
    """
    height, width = images.shape[-2:]
    filled = images.ne(0).any(1)
    sizes = torch.stack([_last(filled.any(2)), _last(filled.any(1))], 1)
    return [
        (max(rows, min(smallest, height)), max(columns, min(smallest, width))) if rows else (height, width)
        for rows, columns in sizes.tolist()  # the one place where the host waits for the device
    ]


@torch.compiler.disable
def maps_without_padding(
    compute_maps: Callable[[Tensor], tuple[Tensor, ...]], images: Tensor, strides: Sequence[int], smallest: int
) -> tuple[Tensor, ...]:
    """Compute the maps of images each without its padding; those of one size go together.

    Where there is no padding, this is ``compute_maps(images)``, and so it is for tensors without values, on which FLOPs
    are counted. ``torch.compile`` leaves this and all that it calls as it is: almost every image would be of another
    size, and compiled anew.

    Args:
        compute_maps: Computes the maps (B, C, h, w), or vectors (B, C), of images (B, channels, H, W).
        images: (B, channels, H, W), padded with zeros at the bottom and on the right.
        strides: Pixels per position of each map.
        smallest: Least side of an image that ``compute_maps`` takes.

    Returns:
        As ``compute_maps(images)`` does. In the valid area, the ceil(h / stride) x ceil(w / stride) positions at the
        top left, each map is that of the image alone; outside it is 0.

    Raises:
        RuntimeError: While the model is exported or traced: the sizes to compute with depend on the images' values.
    """
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        raise RuntimeError(
            "padding='skip' cannot be exported or traced, because it computes with sizes that depend on the images: "
            "build the backbone with padding='scan', which has the same weights, and give it images without padding"
        )
    # Tensors without values, which have no padding to see, and what the backbone refuses.
    if images.is_meta or isinstance(images, FakeTensor) or images.dim() != 4 or images.numel() == 0:
        return compute_maps(images)
    batch, _, height, width = images.shape
    sizes = image_sizes(images, smallest)
    if all(size == (height, width) for size in sizes):
        return compute_maps(images)

    maps: list[Tensor] = []
    for size in dict.fromkeys(sizes):
        members = [i for i, other in enumerate(sizes) if other == size]
        # A slice is a view of the batch, a list of places makes a copy.
        places = slice(None) if len(members) == batch else members
        parts = compute_maps(images[places, :, : size[0], : size[1]])
        if not maps:
            maps = [
                _zeros(part, batch, (-(-height // stride), -(-width // stride)))
                for part, stride in zip(parts, strides, strict=True)
            ]
        for whole, part in zip(maps, parts, strict=True):
            area = (places, slice(None), *(slice(side) for side in part.shape[2:]))
            whole[area] = part
    return tuple(maps)


def _last(flags: Tensor) -> Tensor:
    """Give the number of flags (B, n) up to and including the last one that is set; 0 if none is."""
    return (flags * torch.arange(1, flags.shape[1] + 1, device=flags.device)).amax(1)


def _zeros(part: Tensor, batch: int, size: tuple[int, int]) -> Tensor:
    """Give zeros like maps (b, C, h, w), of other size, or like vectors (b, C), for the whole batch."""
    return part.new_zeros(batch, part.shape[1], *size[: part.dim() - 2])
