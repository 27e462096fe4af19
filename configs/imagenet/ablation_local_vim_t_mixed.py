# Ablation of paper table 5, row 4: LocalVim-T*, horizontal and 2 x 2 local scans in every block, SCAttn, no search.
# 8.0 M parameters, 1.5 G FLOPs (published convention). Published: 75.8 top-1. Everything else as in
# local_vim_t.py, which is the next step: with search, 76.2.
_base_ = ['./local_vim_t.py']
model = dict(backbone=dict(arch='tiny_without_search'))
