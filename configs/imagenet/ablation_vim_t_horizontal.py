# Ablation of paper table 5, row 1: Vim-T, horizontal scans only, 24 blocks with two scans each, no SCAttn.
# 7.1 M parameters, 1.5 G FLOPs (published convention). Published: 73.1 top-1. Everything else as in local_vim_t.py.
_base_ = ['./local_vim_t.py']
model = dict(
    backbone=dict(
        arch=dict(_delete_=True, embed_dim=192, depth=24, directions=[['h', 'h_flip']] * 24),
        attn=False,
    )
)
