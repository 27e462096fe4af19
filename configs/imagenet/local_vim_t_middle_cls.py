# LocalVim-T with a class token in the middle of every scan, without RoPE, ImageNet-1k, 224 x 224.
# Published: 77.8 top-1. Published weights:
# https://github.com/hunto/LocalMamba/releases/download/v1.0.0/local_vim_tiny_middle_cls_token.ckpt
# Total batch 1024 (8 GPUs x 128), 300 epochs, AdamW lr 1e-3, wd 0.05, drop path 0.1, seed 42. Not reproduced here.
_base_ = ['./local_vim_t.py']
model = dict(backbone=dict(rope=False, middle_cls_token=True, out_type='cls_token'))
