"""Pretrained backbones from a local folder: decoders as the trunk, vision encoders, image-text models."""
