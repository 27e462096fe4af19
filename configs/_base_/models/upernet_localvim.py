# Four maps of one stride, without a neck, as MMSegmentation's plain example of a ViT (vit_deit-s16_upernet), whose drop
# path of 0.1 this has too. Only that, with position tables of 224 x 224 pixels that are resized as images come, has the
# paper's size of 36 and 58 M parameters.
_base_ = ['./upernet.py']
model = dict(
    backbone=dict(type='mmlocalmamba.LocalVim', arch='tiny', drop_path_rate=0.1, padding='skip'),
    decode_head=dict(in_channels=[192, 192, 192, 192]),
    auxiliary_head=dict(in_channels=192, in_index=3),
)
