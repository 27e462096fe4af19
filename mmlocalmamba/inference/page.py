"""A web page for a trained model: upload a picture, see what it finds and how its blocks scan the picture."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg

from mmlocalmamba.analysis.plot_scan_paths import plot_scan_paths
from mmlocalmamba.models.backbones.base import ScanBackbone

from .drawing import Artist
from .predictors import Predictor
from .writing import summary

if TYPE_CHECKING:
    import gradio

_MOST_TOKENS = 16
"""Tokens along the longer side of the grid that paths are drawn on: more lines would hide the picture."""


_BUTTONS = ['fullscreen', 'download']  # by default there is one that uploads a picture to gradio's makers, too
_KEPT = 3600
"""Seconds that uploaded pictures stay on the disk."""


class Demo:
    """What the page shows, without the page.

    Args:
        predictor: The model.
    """

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor
        backbone = getattr(predictor.trained.model, 'backbone', None)
        self.directions = backbone.directions if isinstance(backbone, ScanBackbone) else ()

    def predict(self, image: np.ndarray, score_thr: float = 0.3) -> tuple[np.ndarray, list[list[Any]]]:
        """Predict and draw.

        Args:
            image: uint8 (height, width, 3): red, green, blue.
            score_thr: Objects with lower scores are left out.

        Returns:
            The overlay, as ``image``; and rows of a class and a number: the score of an object or a class, or the part
            of the pixels.
        """
        picture = self.predictor.pipeline.take_frame(np.ascontiguousarray(image[..., ::-1]), 'upload', 0)
        (result,) = self.predictor.predict([picture])
        trained = self.predictor.trained
        entry = summary('upload', picture, result, trained, score_thr)
        if 'objects' in entry:
            rows = [[found['class'], found['score']] for found in entry['objects']]
        else:
            rows = sorted(([name, value] for name, value in entry['classes'].items()), key=lambda row: -row[1])
        return Artist(trained, score_thr).draw(image, result), rows

    def scan_paths(self, image: np.ndarray, block: int) -> np.ndarray:
        """Draw the directions of a block over a picture.

        Args:
            image: uint8 (height, width, 3): red, green, blue.
            block: Number of the block, from 0.

        Returns:
            uint8 (height, width, 3).
        """
        height, width = image.shape[:2]
        tokens = _MOST_TOKENS / max(height, width)
        grid = max(round(height * tokens), 2), max(round(width * tokens), 2)
        title = f'Block {block}, drawn with {grid[0]} x {grid[1]} tokens'
        figure = plot_scan_paths(self.directions[block], grid, image, title)
        figure.set_dpi(100)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def build_page(demo: Demo) -> gradio.Blocks:
    """Build the page; ``launch`` serves it. Nothing is sent anywhere.

    Raises:
        ModuleNotFoundError: If gradio is not installed.
    """
    os.environ['GRADIO_ANALYTICS_ENABLED'] = 'False'  # read when gradio is imported; else it asks its makers' server
    try:
        import gradio
    except ModuleNotFoundError as error:
        if error.name != 'gradio':
            raise
        raise ModuleNotFoundError('the page needs gradio: pip install gradio', name='gradio') from error

    trained = demo.predictor.trained
    model = f'{type(trained.model).__name__} on {type(getattr(trained.model, "backbone", trained.model)).__name__}'
    columns = {
        'detection': ['class', 'score'],
        'segmentation': ['class', 'part of the pixels'],
        'classification': ['class', 'score'],
    }[trained.task]
    with gradio.Blocks(title='mmlocalmamba', analytics_enabled=False, delete_cache=(_KEPT, _KEPT)) as page:
        gradio.Markdown(f'# {trained.task.capitalize()}\n{model}, {len(trained.classes)} classes, on {trained.device}')
        with gradio.Row():
            image = gradio.Image(
                label='Picture', type='numpy', image_mode='RGB', sources=['upload', 'clipboard'], buttons=_BUTTONS
            )
            overlay = gradio.Image(label='Prediction', interactive=False, format='png', buttons=_BUTTONS)
        threshold = gradio.Slider(0, 1, 0.3, step=0.05, label='Lowest score', visible=trained.task == 'detection')
        found = gradio.Dataframe(headers=columns, label='Found', interactive=False)

        def predict(pixels: np.ndarray | None, score_thr: float) -> tuple[Any, Any]:
            return (None, []) if pixels is None else demo.predict(pixels, score_thr)

        gradio.on([image.change, threshold.release], predict, [image, threshold], [overlay, found], api_name='predict')
        if demo.directions:
            _add_scan_paths(gradio, demo, image)
        else:
            gradio.Markdown('The backbone is none of the scanning ones: there are no scan paths to show.')
    return page


def _add_scan_paths(gradio: Any, demo: Demo, image: Any) -> None:
    """Add the choice of a block and the picture of its paths."""
    block = gradio.Slider(0, len(demo.directions) - 1, 0, step=1, label='Block of the backbone')
    paths = gradio.Image(label='Scan paths', interactive=False, format='png', buttons=_BUTTONS)

    def draw(pixels: np.ndarray | None, number: float) -> Any:
        return None if pixels is None else demo.scan_paths(pixels, int(number))

    gradio.on([image.change, block.release], draw, [image, block], paths, api_name='scan_paths')
