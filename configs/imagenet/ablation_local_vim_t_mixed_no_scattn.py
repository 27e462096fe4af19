# Ablation of paper table 5, row 3: LocalVim-T*, horizontal and 2 x 2 local scans in every block, no SCAttn, no search.
# 7.2 M parameters, 1.5 G FLOPs (published convention). Published: 75.2 top-1. Everything else as in local_vim_t.py.
_base_ = ['./local_vim_t.py']
model = dict(backbone=dict(arch='tiny_without_search', attn=False))
