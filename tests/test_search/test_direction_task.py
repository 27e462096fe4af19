"""On a task that only scans along one axis can solve easily, the search must find that axis, whatever the seed."""

import pytest
import torch
import torch.nn.functional as F

from mmlocalmamba.datasets import DirectionTextures
from mmlocalmamba.models import ClassificationHead, LocalVim
from mmlocalmamba.search import probabilities, set_num_sampled, top_directions

CANDIDATES = ('h', 'h_flip', 'v', 'v_flip')
STEPS, BATCH = 60, 32


def search(axis, seed, num_sampled):
    dataset = DirectionTextures(axis=axis, num_images=STEPS * BATCH, seed=seed)
    torch.manual_seed(seed)
    backbone = LocalVim(
        arch=dict(embed_dim=16, depth=1, directions=[CANDIDATES]),
        img_size=8,
        patch_size=1,
        in_channels=1,
        out_indices=(-1,),
        out_type='residual',
        out_norm=False,
        d_state=4,
        search=True,
    )
    set_num_sampled(backbone, num_sampled)
    head = ClassificationHead(16, 2, norm='RMSNorm')
    optimizer = torch.optim.AdamW([*backbone.parameters(), *head.parameters()], lr=5e-3, weight_decay=0)
    for start in range(0, len(dataset), BATCH):
        items = [dataset[i] for i in range(start, start + BATCH)]
        images, labels = torch.stack([i['inputs'] for i in items]), torch.tensor([i['labels'] for i in items])
        optimizer.zero_grad()
        F.cross_entropy(head(backbone(images)), labels).backward()
        optimizer.step()
    return probabilities(backbone)


@pytest.mark.slow
@pytest.mark.parametrize('seed', [0, 1, 2])
@pytest.mark.parametrize('num_sampled', [None, 2])
@pytest.mark.parametrize(('axis', 'right'), [('h', ('h', 'h_flip')), ('v', ('v', 'v_flip'))])
def test_the_search_prefers_the_right_directions(axis, right, num_sampled, seed):
    blocks = search(axis, seed, num_sampled)
    assert top_directions(blocks, 2) == (right,)
    assert sum(blocks[0][name] for name in right) > 0.52
