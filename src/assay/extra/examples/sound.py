"""Sound, as samples or as a spectrogram."""

from __future__ import annotations

import torch
from torch import Tensor

from assay.extra.examples.given import LISTENING, Given

_FRAMES, _SAMPLES = 200, 4000  # where no size says how many
_HOP = 320  # samples for each frame, where a model reads both
_BINS = (
    "num_mel_bins",
    "feature_size",
    "n_mels",
    "num_mels",
    "input_feat_size",
    "mel_bins",
    "feature_projection_input_dim",
    "model_in_dim",
    "num_mel_channels",
    "input_dim",
    "mel_channels",
)
# spectrograms `[b, bins, frames]`; those of all others are `[b, frames, bins]`
_BINS_FIRST = {
    "whisper",
    "qwen2_audio",
    "voxtral",
    "voxtral_realtime",
    "audioflamingo3",
    "glmasr",
    "musicflamingo",
    "moss_transcribe_diarize",
    "moss_transcribe_diarize_audio",
    "qwen3_asr",
    "vibevoice_asr",
    "clvp",
}
# sound `[b, channels, samples]`; that of all others is `[b, samples]`
_CHANNELS = (
    "encodec",
    "dac",
    "mimi",
    "xcodec",
    "vibevoice",
    "pocket_tts",
    "neucodec",
    "pe_audio",
    "higgs_audio",
)
_PADDED = ("vibevoice", "moss_transcribe_diarize")  # those that cannot do without the mask
_FINE = ("gemma4", "nemotron3_5_transcribe", "nemo_speechlm")  # 128 bins, and nothing says so
_STACKED = {"granite_speech5_ctc": 4, "granite_speech5_encoder": 4}  # frames that are read as one


def sound(given: Given) -> Tensor:
    """Samples, in the layout that the model reads.

    Returns:
        `[b, n]`, or with channels between.
    """
    b, n = given.at.b, given.at.n if given.main == "input_values" else _SAMPLES
    if given.kind == "audio-spectrogram-transformer":
        return torch.randn(b, given.config.max_length, given.config.num_mel_bins)
    if given.kind.startswith(_CHANNELS):
        return torch.randn(b, given.of(("audio_channels", "channels"), 1), n)
    return torch.randn(b, n)


def samples_mask(given: Given) -> Tensor | None:
    """Which samples are no padding: all `[b, samples]`, for models that are told."""
    if given.kind not in _PADDED:
        return None
    return torch.ones(given.at.b, sound(given).shape[-1], dtype=torch.long)


def letters(given: Given) -> Tensor:
    """A spectrogram whose bins hold tokens `[b, n, bins]`."""
    config = given.config
    return torch.randint(config.codebook_size, (given.at.b, given.at.n, config.num_codebooks))


def spoken(given: Given) -> Tensor:
    """What a text is to sound like, a frame for each token `[b, n, bins]`."""
    return torch.randn(given.at.b, given.at.n, _bins(given))


def contour(given: Given) -> Tensor:
    """How high or loud each token is to be said `[b, n, 1]`."""
    return torch.randn(given.at.b, given.at.n, 1)


def spectrogram(given: Given) -> Tensor:
    """Frames of a spectrogram, in the layout that the model reads.

    Returns:
        `[b, n, bins]` or `[b, bins, n]`; of Whisper and its kin, which read one length only, of that.
    """
    b, config = given.at.b, given.config
    n = given.at.n if given.main != "input_ids" and given.at.n else _FRAMES
    n = max(1, n // _HOP) if given.main == "input_values" else n
    if given.kind.startswith("clap"):
        audio = getattr(config, "audio_config", config)
        wide = audio.spec_size * (audio.spec_size // audio.num_mel_bins)
        return torch.randn(b, 1, wide, audio.num_mel_bins)
    if given.kind == "pop2piano":
        return torch.randn(b, n, config.d_model)
    if _bins_first(given):
        positions = given.of(("max_source_positions",), 0, ("audio_config", "encoder_config"))
        return torch.randn(b, _bins(given), 2 * positions or n)  # whisper's stem halves them
    return torch.randn(b, n, _bins(given))


def frames_mask(given: Given) -> Tensor | None:
    """Which frames are no padding: all `[b, frames]`; none is needed beside samples."""
    if given.main == "input_values":
        return None
    frames = spectrogram(given).shape[-1 if _bins_first(given) else -2]
    return torch.ones(given.at.b, frames, dtype=torch.long)


def frames_padding(given: Given) -> Tensor:
    """Which frames are padding: none `[b, frames]`."""
    return torch.zeros(given.at.b, spectrogram(given).shape[-2], dtype=torch.bool)


def _bins_first(given: Given) -> bool:
    return given.kind.removesuffix("_encoder") in _BINS_FIRST


def _bins(given: Given) -> int:
    if hasattr(given.config, "input_feat_per_channel"):
        return int(given.config.input_feat_per_channel * given.config.input_channels)
    stacked = given.of(("num_stacked_frames",), _STACKED.get(given.kind, 1), LISTENING)
    default = 128 if given.kind.startswith(_FINE) else 80
    return int(given.of(_BINS, default, LISTENING) * stacked)
