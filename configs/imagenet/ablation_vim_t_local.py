# Ablation of paper table 5, row 2: Vim-T with 2 x 2 local scans only, 24 blocks with two scans each, no SCAttn.
# 7.1 M parameters, 1.5 G FLOPs (published convention). Published: 74.1 top-1. Everything else as in local_vim_t.py.
_base_ = ['./local_vim_t.py']
model = dict(
    backbone=dict(
        arch=dict(_delete_=True, embed_dim=192, depth=24, directions=[['w2', 'w2_flip']] * 24),
        attn=False,
    )
)
