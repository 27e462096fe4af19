"""Make the parity fixtures: ``python -m tests.data.make_parity`` in the repository's root.

They come from this package itself, in float64 on the ``reference`` back end, after it was found to agree with the
published code: within 1e-4 in features and logits (LocalVMamba, LocalVim, LocalVim resized and with a middle class
token), and within 1e-5 in the gradients of every parameter and in the losses of six AdamW steps (LocalVMamba). That
comparison is ``tests/test_models/test_weights/test_published_names.py``. Its data are not in the repository; these
fixtures keep what it showed. On maps that are not square the published code scrambles the direction ``v``, so there
the fixtures hold what this package computes.

Make them again only when the models of ``parity.py`` change, and where that comparison can run and passes.
"""

import os

os.environ['MMLOCALMAMBA_BACKEND'] = 'reference'

import numpy as np
import torch

from ..test_models.test_weights.parity import CASES, DATA, draw_published, published_shapes, results


def main() -> None:
    """Write one file per model."""
    for name, case in CASES.items():
        found = results(case, draw_published(published_shapes(case.backbone)), torch.float64)
        arrays = {key: value.float().numpy() for key, value in found.items()}
        np.savez_compressed(DATA / f'{name}.npz', **arrays)


if __name__ == '__main__':
    main()
