"""Write the table of the model zoo from model-index.yml: ``python tools/make_model_zoo.py``."""

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmengine.fileio import load

ROOT = Path(__file__).resolve().parents[1]

HEAD = """# Model zoo

Generated from [model-index.yml](../model-index.yml) by `tools/make_model_zoo.py`.

Parameters and FLOPs are those of the config, counted by `tools/analysis/get_flops.py`, with the paper's in brackets.
A multiply-add counts as one, and the scan as 9 L D N + L D per direction. Where there are two figures, the second is
in the convention of the authors' counter for LocalVim on ImageNet, which counts the projections of the directions once
and the scan as 5 L D N. "Published" is what the authors report; "here" is what was measured with this package.
"""

FOOT = """
The paper rounds parameters to whole millions; every config has its figure. FLOPs are within 3 % of the paper's (for
LocalVim in the second convention), except for LocalVim in detection and segmentation (tables 4 and 6): no way of
counting gives both those figures and table 2's, because LocalVim's cost is proportional to its tokens, up to the
padding of windows, which adds 20 % at most.

| | paper | head and neck | leaves for the backbone | table 2, for as many tokens |
|---|---|---|---|---|
| UperNet LocalVim-T, 4096 tokens | 181 G | 111 G | 70 G | 1.5 G x 4096 / 196 = 31 G |
| UperNet LocalVim-S, 4096 tokens | 297 G | 116 G | 181 G | 4.8 G x 4096 / 196 = 100 G |
| ViTDet LocalVim-T, 4096 tokens | 403 G | 339 G | 64 G | 1.5 G x 4096 / 196 = 31 G |

The paper does not say what was counted. The first convention with the scan counted twice comes within 3 % of all three
(176, 289 and 405 G).

The paper calls the detector of its table 6 a Cascade Mask R-CNN, but its 31 M parameters and 403 G FLOPs are those of
mask_rcnn_localvim_t_vitdet. The Cascade Mask R-CNN of the same parts has 66 M and 748 G.
"""


def rows(models: list[Mapping[str, Any]]) -> Iterator[str]:
    """Yield the lines of the tables, one table per data set."""
    dataset = None
    for model in models:
        result = model['Results'][0]
        if result['Dataset'] != dataset:
            dataset = result['Dataset']
            yield f'\n## {result["Task"]}: {dataset}\n'
            yield '| config | input | params (M) | FLOPs (G) | published | starts from | weights | here |'
            yield '|---|---|---|---|---|---|---|---|'
        yield row(model)


def row(model: Mapping[str, Any]) -> str:
    """Lay out one model."""
    counted, paper = model['Metadata'], model['Paper']
    height, width = counted['Input']
    flops = f'{counted["FLOPs"]:g}'
    if counted['Published FLOPs'] != counted['FLOPs']:
        flops += f' / {counted["Published FLOPs"]:g}'
    cells = [
        f'[{model["Name"]}](../{model["Config"]})',
        f'{height} x {width}',
        f'{counted["Parameters"]:g}' + bracket(paper['Parameters']),
        flops + bracket(paper['FLOPs']),
        metrics(model['Results'][0]['Metrics'], 'nothing') + (f' ({paper["Source"]})' if paper['Source'] else ''),
        link(model['Pretrained']) if model['Pretrained'] or 'imagenet' not in model['Config'] else 'scratch',
        link(model['Weights']),
        metrics(model['Reproduced'], 'not run'),
    ]
    return '| ' + ' | '.join(cells) + ' |'


def bracket(value: float | None) -> str:
    """Give the paper's figure in brackets."""
    return '' if value is None else f' ({value:g})'


def metrics(values: Mapping[str, float] | None, none: str) -> str:
    """List metrics, or say ``none``."""
    return ', '.join(f'{value} {name}' for name, value in values.items()) if values else none


def link(url: str | None) -> str:
    """Link to a file by its name, or say that it does not exist."""
    return f'[{url.rsplit("/", 1)[-1]}]({url})' if url else 'not published'


def model_zoo(index: Path) -> str:
    """Give the text of the page."""
    return HEAD + '\n'.join(rows(load(index)['Models'])) + '\n' + FOOT


def main(arguments: list[str] | None = None) -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description='Write the table of the model zoo from model-index.yml')
    parser.add_argument('--out', type=Path, default=ROOT / 'docs' / 'model_zoo.md', help='file (default: %(default)s)')
    args = parser.parse_args(arguments)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(model_zoo(ROOT / 'model-index.yml'), encoding='utf-8')


if __name__ == '__main__':
    main()
