"""What is being searched inside a model: its mixing blocks, their candidates and their probabilities."""

from __future__ import annotations

from torch import nn

from mmlocalmamba.models.layers.merge import DirectionMixture
from mmlocalmamba.models.layers.mixer import ScanMixer


def search_mixers(model: nn.Module) -> dict[str, ScanMixer]:
    """Find the searching mixers of a model, a bare backbone or a whole detector, in the order of its blocks.

    Returns:
        The mixers by their names in the model.

    Raises:
        ValueError: If there is none.
    """
    mixers = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, ScanMixer) and isinstance(module.merge, DirectionMixture)
    }
    if not mixers:
        raise ValueError(
            f'this {type(model).__name__} searches for no directions: build its LocalVMamba, LocalVim or VMamba '
            'backbone with search=True'
        )
    return mixers


def mixture(mixer: ScanMixer) -> DirectionMixture:
    """Give the mixture of a searching mixer.

    Raises:
        TypeError: If the mixer adds its directions up instead.
    """
    if not isinstance(mixer.merge, DirectionMixture):
        raise TypeError(f'want a mixer that was built with search=True, got one with a {type(mixer.merge).__name__}')
    return mixer.merge


def candidates(model: nn.Module) -> tuple[tuple[str, ...], ...]:
    """Give the names of the candidate directions of each block.

    Raises:
        ValueError: If the model does not search.
    """
    return tuple(mixer.directions for mixer in search_mixers(model).values())


def probabilities(model: nn.Module) -> list[dict[str, float]]:
    """Give softmax(alpha) of each block (paper equation 5), by the names of its candidates.

    Raises:
        ValueError: If the model does not search.
    """
    blocks = []
    for mixer in search_mixers(model).values():
        values = mixture(mixer).alpha.detach().float().softmax(0).tolist()
        blocks.append(dict(zip(mixer.directions, values, strict=True)))
    return blocks


def set_num_sampled(model: nn.Module, count: int | None) -> None:
    """Choose between computing all branches in each training step, and a few that are drawn by their probabilities.

    Args:
        model: A model with a searching backbone.
        count: Branches to draw per block and step, which memory and time per step then follow; None computes all.
            See :class:`~mmlocalmamba.models.layers.merge.DirectionMixture`.

    Raises:
        ValueError: If the model does not search, or a block has fewer candidates.
    """
    for name, mixer in search_mixers(model).items():
        if count is not None and not 1 <= count <= len(mixer.directions):
            raise ValueError(
                f'num_sampled={count} does not fit {name}, which has {len(mixer.directions)} candidate directions: '
                'draw at least 1 and at most all of them'
            )
        mixture(mixer).num_sampled = count
