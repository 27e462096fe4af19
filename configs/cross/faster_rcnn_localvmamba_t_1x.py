# LocalVMamba-T in MMDetection's Faster R-CNN, COCO 2017, 1x. An example: nothing was published for it.
# Starts from: ImageNet weights that were never published; --cfg-options pretrained=<file or URL> gives them.
# Total batch 16 (8 GPUs x 2), 12 epochs, AdamW lr 1e-4, wd 0.05, drop path 0.2, seed 42.
_base_ = ['../mask_rcnn_localvmamba_t_1x.py', '../_base_/det_tta.py']
model = dict(
    type='FasterRCNN',
    roi_head=dict(mask_roi_extractor=None, mask_head=None),
)
val_evaluator = dict(metric='bbox')
test_evaluator = val_evaluator
