# UperNet, LocalVMamba-T, ADE20K: 57 M parameters, 970 G FLOPs at 512 x 2048.
# Reproduces: paper table 4, LocalVMamba-T. Published: 47.9 mIoU single-scale, 49.1 multi-scale + flip (--tta of
# tools/test.py). Not reproduced here.
# Starts from: ImageNet weights that were never published. Train them (configs/imagenet/local_vmamba_t.py), then give
# --cfg-options pretrained=<file or URL>; without, it trains from scratch.
# Total batch 16 (8 GPUs x 2), 160,000 iterations of 512 x 512, AdamW lr 6e-5, wd 0.01, drop path 0.2 (as in VMamba; the
# paper is silent), seed 42.
_base_ = [
    './_base_/models/upernet_localvmamba.py',
    './_base_/datasets/ade20k.py',
    './_base_/schedules/seg_160k.py',
    './_base_/seg_runtime.py',
]
pretrained = None
