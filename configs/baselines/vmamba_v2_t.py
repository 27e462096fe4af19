# VMamba-T, second version (tiny_s1l8), ImageNet-1k, 224 x 224: 30 M parameters, 4.9 G FLOPs. Published: 82.6 top-1
# (VMamba's model zoo).
# Published weights: https://github.com/MzeroMiko/VMamba/releases/download/%23v2cls/vssm1_tiny_0230s_ckpt_epoch_264.pth
# Total batch 1024 (8 GPUs x 128), 300 epochs, AdamW lr 1e-3, wd 0.05, drop path 0.2, seed 42. Not reproduced here.
_base_ = ['../imagenet/local_vmamba_t.py']
model = dict(backbone=dict(type='mmlocalmamba.VMamba', arch='tiny_s1l8'))
