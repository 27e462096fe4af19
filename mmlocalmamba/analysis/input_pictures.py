"""The pictures that a user means, read as a model's config says."""

from __future__ import annotations

from mmlocalmamba.inference.inputs import find_sources
from mmlocalmamba.inference.pipeline import Picture, PicturePipeline


def read_pictures(pipeline: PicturePipeline, text: str, most: int) -> list[Picture]:
    """Read the first pictures of a file, a folder or a pattern; videos are passed over.

    Args:
        pipeline: How they are read.
        text: File, folder or pattern.
        most: How many at most.

    Raises:
        FileNotFoundError: If there is no such file or folder, or nothing matches.
        ValueError: If there is no picture among them, or ``most`` is below 1.
    """
    if most < 1:
        raise ValueError(f'want at least one picture, not {most}')
    sources = [source for source in find_sources(text) if not source.is_video][:most]
    if not sources:
        raise ValueError(f'{text!r} holds videos only: give pictures')
    return [pipeline.read(source.path, source.name, number) for number, source in enumerate(sources)]
