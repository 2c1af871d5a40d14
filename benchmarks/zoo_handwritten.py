"""The architectures written by hand, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import zoo_images as images
import zoo_sequences as sequences

HANDWRITTEN: Mapping[str, Callable[..., Any]] = {
    "GRU loop": sequences.gru_loop,
    "GRU loop, attention": sequences.gru_loop_attention,
    "nn.GRU seq2seq": sequences.gru_seq2seq,
    "nn.GRU seq2seq, attention": sequences.gru_seq2seq_attention,
    "nn.LSTM, 2 × bidirectional": sequences.bilstm,
    "nn.Transformer": sequences.transformer,
    "checkpointed encoder": sequences.checkpointed,
    "tied layers and embedding": sequences.tied,
    "WaveNet": sequences.wavenet,
    "Conv-TasNet": sequences.conv_tasnet,
    "S4D": sequences.long_convolution,
    "dense mixture of experts": sequences.mixture,
    "DeepSets": sequences.deep_sets,
    "dense graph network": sequences.graphs,
    "Perceiver": sequences.perceiver,
    "highway network": sequences.highway,
    "hypernetwork": sequences.hypernetwork,
    "neural ODE": sequences.flow,
    "ResNet-18": images.resnet18,
    "ResNet-50": images.resnet50,
    "windowed attention": images.windowed,
    "U-Net": images.unet,
    "DenseNet": images.densenet,
    "MobileNet": images.mobilenet,
    "ViT": images.vit,
    "MLP-Mixer": images.mixer,
    "ConvNeXt": images.convnext,
    "capsules": images.capsules,
}
