# Vim-T, ImageNet-1k, 224 x 224: 7 M parameters, 1.5 G FLOPs. Published: 73.1 top-1 (paper table 2).
# Published weights: https://huggingface.co/hustvl/Vim-tiny-midclstok/resolve/main/vim_t_midclstok_76p1acc.pth
# They have 76.1 top-1 by Vim's own list; the paper compares with an earlier model, with the class token elsewhere.
# Total batch 1024 (8 GPUs x 128), 300 epochs, AdamW lr 1e-3, wd 0.05, drop path 0.1, seed 42. Not reproduced here.
_base_ = ['../imagenet/local_vim_t.py']
model = dict(backbone=dict(type='mmlocalmamba.Vim', out_type='cls_token'))
