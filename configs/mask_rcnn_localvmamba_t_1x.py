# Mask R-CNN, LocalVMamba-T, COCO 2017, 1x: 45 M parameters, 291 G FLOPs at 1280 x 800.
# Reproduces: paper table 3, 1x, LocalVMamba-T. Published: 46.7 box AP, 42.2 mask AP. Not reproduced here.
# Starts from: ImageNet weights that were never published. Train them (configs/imagenet/local_vmamba_t.py), then give
# --cfg-options pretrained=<file or URL>; without, it trains from scratch.
# Total batch 16 (8 GPUs x 2), 12 epochs, AdamW lr 1e-4, wd 0.05, drop path 0.2, seed 42.
_base_ = [
    './_base_/models/mask_rcnn_localvmamba.py',
    './_base_/datasets/coco_instance.py',
    './_base_/schedules/det_1x.py',
    './_base_/det_runtime.py',
]
pretrained = None
