"""Images in one folder per class, and timm's transforms."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.dataset import BaseDataset
from PIL import Image
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD, create_transform
from timm.data.auto_augment import AugmentOp, posterize

from mmlocalmamba.registry import DATASETS, TRANSFORMS

from .image_problems import image_problem

IMAGE_SUFFIXES = ('.bmp', '.jpeg', '.jpg', '.png', '.ppm', '.tif', '.tiff', '.webp')


@DATASETS.register_module()
class ImageFolder(BaseDataset):
    """Images in one folder per class: ``<data_root>/<data_prefix>/<class>/**/*.jpg``, as ImageNet is unpacked.

    Classes are the folders' names in alphabetical order. Hidden files and folders are left out, such as the ``._*``
    files of macOS. Each item is what the pipeline makes of ``img_path`` and
    ``gt_label``.

    Args:
        data_root: Folder of the data set.
        data_prefix: Folder of the split in it, such as ``'train'``.
        pipeline: Configs of transforms; the first one reads the image.
        metainfo: May give ``classes``, which then must be the folders' names, in the order of the labels.
        indices: Use only that many images, or only those.
        test_mode: Whether this is for evaluation.

    Raises:
        FileNotFoundError: If the folder is missing.
        ValueError: If it holds no classes or a class holds no images.
    """

    def __init__(
        self,
        data_root: str = '',
        data_prefix: str = '',
        pipeline: Sequence[dict[str, Any]] = (),
        metainfo: dict[str, Any] | None = None,
        indices: int | Sequence[int] | None = None,
        test_mode: bool = False,
    ) -> None:
        self.folder = Path(data_root) / data_prefix
        super().__init__(
            metainfo=metainfo,
            data_root='',
            data_prefix=dict(img_path=''),
            indices=indices,
            test_mode=test_mode,
            pipeline=list(pipeline),
        )

    def load_data_list(self) -> list[dict[str, Any]]:
        """List all images with their classes."""
        if not self.folder.is_dir():
            raise FileNotFoundError(
                f'there is no folder {self.folder} (relative paths start at {Path.cwd()}): want one folder per class '
                'in it'
            )
        found = class_folders(self.folder)
        if not found:
            raise ValueError(
                f'{self.folder} has no classes: want one folder per class with its images in it, such as '
                f'{self.folder / "cat" / "1.jpg"}'
            )
        classes = list(self._metainfo.get('classes', found))
        if sorted(classes) != found:
            difference = sorted(set(classes) ^ set(found))
            raise ValueError(f'the classes of metainfo and the folders in {self.folder} differ in {difference[:8]}')
        self._metainfo['classes'] = tuple(classes)
        images = []
        for label, name in enumerate(classes):
            files = image_files(self.folder / name)
            if not files:
                raise ValueError(
                    f'{self.folder / name} has no images: want files ending in {", ".join(IMAGE_SUFFIXES)}'
                )
            images += [dict(img_path=str(path), gt_label=label) for path in files]
        return images


def class_folders(folder: Path) -> list[str]:
    """Give the names of the classes that have a folder in a folder, in the order of their labels; no hidden ones."""
    return sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not _is_hidden(entry.name))


@TRANSFORMS.register_module()
class TimmTransform:
    """Read an image and apply timm's transforms for training or evaluation.

    Training: random resized crop, flip, RandAugment, normalisation, random erasing. Evaluation: resize, centre crop,
    normalisation.

    Args:
        input_size: Side in pixels of the images that the model sees.
        is_training: Whether to augment.
        auto_augment: timm's description of an augmentation, such as ``'rand-m9-mstd0.5-inc1'`` (DeiT's, paper 5.1).
        color_jitter: Strength of colour jitter; used only without ``auto_augment``.
        hflip: Probability of a horizontal flip.
        scale: Range of the random crop's area, relative to the image's.
        re_prob: Probability of random erasing.
        crop_pct: Side of the centre crop relative to the resized image's.
        interpolation: ``'bicubic'``, ``'bilinear'`` or ``'random'``.
        mean: Mean of each channel, of values from 0 to 1.
        std: Standard deviation of each channel.

    Returns:
        Called with ``img_path`` and ``gt_label``: ``inputs``, float32 (3, input_size, input_size), and ``labels``.
        Instead of a path, ``img`` may give the image itself: uint8 (H, W, 3), blue, green, red. Without ``gt_label``
        there are no ``labels``.

    Raises:
        OSError: When called, if the file is missing, cut off or no image. The message names it.
        ValueError: When called, if its pixels are 32-bit or real numbers.
    """

    loads_images = True  # it reads `img_path`, though its name does not say so

    def __init__(
        self,
        input_size: int,
        is_training: bool,
        auto_augment: str | None = None,
        color_jitter: float | None = None,
        hflip: float = 0.5,
        scale: tuple[float, float] = (0.08, 1.0),
        re_prob: float = 0.0,
        crop_pct: float = 0.875,
        interpolation: str = 'bicubic',
        mean: Sequence[float] = IMAGENET_DEFAULT_MEAN,
        std: Sequence[float] = IMAGENET_DEFAULT_STD,
    ) -> None:
        self.transform = create_transform(
            input_size,
            is_training=is_training,
            auto_augment=auto_augment,
            color_jitter=color_jitter,
            hflip=hflip,
            scale=tuple(scale),
            re_prob=re_prob,
            re_mode='pixel',
            crop_pct=crop_pct,
            interpolation=interpolation,
            mean=tuple(mean),
            std=tuple(std),
        )
        for operation in _augmentations(self.transform):
            if operation.aug_fn is posterize:
                operation.aug_fn = _posterize

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Turn ``img_path`` or ``img``, and ``gt_label``, into ``inputs`` and ``labels``."""
        if 'img' in results:
            image = Image.fromarray(np.ascontiguousarray(results['img'][..., ::-1]))
        else:
            image = read_rgb(results['img_path'])
        inputs = self.transform(image)
        return dict(inputs=inputs, labels=results['gt_label']) if 'gt_label' in results else dict(inputs=inputs)


def read_rgb(path: str | Path) -> Image.Image:
    """Read an image as 8-bit RGB; of 16 bits the upper 8 are kept, as OpenCV does.

    Raises:
        OSError: If the file is missing, cut off or no image. The message names it.
        ValueError: If its pixels are 32-bit or real numbers, whose range is not known.
    """
    try:
        with Image.open(path) as image:
            image.load()
            if image.mode.startswith('I;16') or (image.mode == 'I' and image.format == 'PNG'):
                image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
            elif image.mode in ('I', 'F'):
                raise ValueError(
                    f'{path} has {"32-bit" if image.mode == "I" else "real"} numbers as pixels: convert it to 8 or 16 '
                    'bits, so that black is 0 and white is the largest number'
                )
            return image.convert('RGB')
    except (OSError, SyntaxError) as error:
        raise OSError(f'{path} {image_problem(path) or f"does not load: {error}"}') from error


def image_files(folder: Path) -> list[Path]:
    """List the images in a folder and those below it, without hidden ones."""
    return sorted(
        path
        for path in folder.rglob('*')
        if path.suffix.lower() in IMAGE_SUFFIXES and not any(map(_is_hidden, path.relative_to(folder).parts))
    )


def _is_hidden(name: str) -> bool:
    return name.startswith('.')


def _augmentations(transform: Any) -> Iterator[AugmentOp]:
    """Yield the operations of timm's RandAugment, AugMix and AutoAugment in a composed transform."""
    for part in transform.transforms:
        yield from getattr(part, 'ops', ())
        for operations in getattr(part, 'policy', ()):
            yield from operations


def _posterize(image: Image.Image, bits: int, **kwargs: Any) -> Image.Image:
    """Posterize to at least one bit: timm draws 0 now and then, which made the image black and Pillow 13 refuses."""
    return posterize(image, max(bits, 1), **kwargs)
