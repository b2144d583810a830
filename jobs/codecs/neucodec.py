"""NeuCodec: one codebook of 65,536 codes, 50 a second, 16 kHz in and 24 kHz out (Neuphonic).

The network is that of the package ``neucodec``; this module builds it from a directory, because the
package's own loader takes two ids of the model hub and nothing else. The directory holds

    config.json          {"codec": "neucodec"}; ``encoder`` and ``decoder`` may give other sizes
    model.safetensors    its weights; or ``pytorch_model.bin``, which is read with ``weights_only``
    w2v-bert-2.0/        ``config.json`` and ``preprocessor_config.json`` of facebook/w2v-bert-2.0,
                         and its ``model.safetensors`` where the weights above have none of it

Notation: n codes.
"""

import hashlib
import json
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from jobs.codecs.codec import CODECS
from jobs.vendor import neucodec

SAMPLES_IN, SAMPLES_OUT = 320, 480
"""A code, before and after: a fiftieth of a second."""
CODEBOOK_SIZE = 4**8
"""Finite scalar quantisation: eight numbers of four levels."""
LOOK_BACK, LOOK_AHEAD = 50, 13
"""Codes that are decoded beside those that a piece is made of, in a stream. Its convolutions reach
11 codes, and its inverse Fourier transform another 2."""
_SEMANTIC = "w2v-bert-2.0"
_SEMANTIC_LAYERS = 16
"""Of the semantic model; ``NeuCodec.encode_code`` reads no later one."""
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_LATENT = 2048


class Rotary(nn.Module):
    """``torchtune.modules.RotaryPositionalEmbeddings`` of torchtune 0.6.1, as NeuCodec uses it.

    Pairs of neighbouring dimensions turn by their place in the second dimension of the input. The
    package hands over (batch, heads, time, dimensions), so that place is the head's number.
    """

    def __init__(self, dim: int, base: int = 10_000) -> None:
        super().__init__()
        self._frequencies = 1.0 / base ** (torch.arange(0, dim, 2).float() / dim)

    def forward(self, x: Tensor) -> Tensor:
        """``x`` (b, s, h, dim), turned."""
        angles = torch.outer(torch.arange(x.shape[1]).float(), self._frequencies)
        turn = torch.polar(torch.ones_like(angles), angles)[None, :, None].to(x.device)
        pairs = torch.view_as_complex(x.float().reshape(*x.shape[:-1], -1, 2))
        return torch.view_as_real(pairs * turn).flatten(-2).type_as(x)


class NeuCodec:
    """See :class:`jobs.codecs.codec.Codec`."""

    codebook_size = CODEBOOK_SIZE
    sample_rate = CODECS["neucodec"].sample_rate
    speech_rate = CODECS["neucodec"].speech_rate
    frame_rate = sample_rate / SAMPLES_IN

    def __init__(self, network: Any, digest: str) -> None:  # noqa: ANN401 (neucodec.NeuCodec)
        self._network = network.eval()
        self.digest = digest

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read the directory; nothing is downloaded.

        Raises:
            FileNotFoundError: a file is missing, with the commands that get it.
            ImportError: a package is missing, or of another version.
            ValueError: weights are missing, or of other shapes.
        """
        files = _files(directory)
        network = build_network(directory)
        weights = _read_weights(files[0])
        if not any(name.startswith("semantic_model.") for name in weights):
            semantic = directory / _SEMANTIC / "model.safetensors"
            if not semantic.is_file():
                raise FileNotFoundError(f"a NeuCodec needs {semantic}; {_advice(directory)}")
            files.append(semantic)
            read = _read_weights(semantic)
            weights |= {f"semantic_model.{name}": of for name, of in read.items()}
        missing = [name for name, _ in network.named_parameters() if name not in weights]
        if missing:
            raise ValueError(
                f"{files[0]} must hold all weights of a NeuCodec, but {', '.join(missing[:3])} "
                f"and {len(missing)} in all are not in it; download it again"
            )
        # What else is in the file is of training: the semantic decoder, later layers.
        known = network.state_dict()
        try:
            network.load_state_dict({n: of for n, of in weights.items() if n in known}, False)
        except RuntimeError as error:
            raise ValueError(f"{files[0]}: {error}; correct config.json") from error
        return cls(network, _digest(files))

    def centroids(self) -> NDArray[np.float32]:
        """(65536, 8): their distances are those of the codes at the entrance of the decoder.

        There a code is ``M c``, with eight levels c and the product M of two linear layers, and
        ``|M c| = |R c|`` where ``M = Q R`` with orthonormal Q.
        """
        quantizer = self._network.generator.quantizer
        entrance = self._network.fc_post_a.weight @ quantizer.project_out.weight
        (levels,) = quantizer.codebooks
        found: NDArray[np.float32] = (levels @ torch.linalg.qr(entrance).R.T).detach().numpy()
        return found

    def encode(self, audio: NDArray[np.float32], rate: int) -> NDArray[np.int64]:
        """See :meth:`Codec.encode`."""
        if rate != self.sample_rate:
            raise ValueError(f"audio must be {self.sample_rate} Hz, got {rate} Hz; resample it")
        if audio.ndim != 1 or len(audio) < SAMPLES_IN:
            raise ValueError(
                f"audio must be (samples,) with at least {SAMPLES_IN}, got {audio.shape}"
            )
        with torch.no_grad():
            codes = self._network.encode_code(torch.from_numpy(audio)[None, None])
        found: NDArray[np.int64] = codes[0, 0].numpy().astype(np.int64)
        return found

    def decode(self, codes: NDArray[np.int64]) -> NDArray[np.float32]:
        """480 samples a code."""
        if len(codes) == 0:
            raise ValueError("cannot decode an empty sequence of codes")
        if codes.min() < 0 or codes.max() >= CODEBOOK_SIZE:
            raise ValueError(
                f"codes must be in 0..{CODEBOOK_SIZE - 1}, got {codes.min()}..{codes.max()}"
            )
        with torch.no_grad():
            sound = self._network.decode_code(torch.from_numpy(codes)[None, None])
        audio: NDArray[np.float32] = sound[0, 0].clamp(-1, 1).numpy()
        return audio

    def decode_stream(self, chunks: Iterable[NDArray[np.int64]]) -> Iterator[NDArray[np.float32]]:
        """Pieces of windows: ``LOOK_BACK`` codes before a piece and ``LOOK_AHEAD`` after it.

        Together they have the length of :meth:`decode`, but are not its samples: attention and
        normalisation in this decoder go over the whole window.
        """
        codes, done = np.zeros(0, dtype=np.int64), 0
        for chunk in chunks:
            codes = np.concatenate((codes, chunk))
            if (ready := len(codes) - LOOK_AHEAD) > done:
                yield self._part(codes, done, ready)
                done = ready
        if done < len(codes):
            yield self._part(codes, done, len(codes))

    def _part(self, codes: NDArray[np.int64], first: int, last: int) -> NDArray[np.float32]:
        start = max(first - LOOK_BACK, 0)
        audio = self.decode(codes[start:])
        return audio[(first - start) * SAMPLES_OUT : (last - start) * SAMPLES_OUT]


load = NeuCodec.load


def build_network(directory: Path) -> nn.Module:
    """A ``neucodec.NeuCodec`` of the directory's sizes, with random weights.

    Raises:
        ImportError: a package is missing, or of another version.
        OSError: the semantic model's ``config.json`` or ``preprocessor_config.json`` is missing.
        TypeError: ``config.json`` has a size that there is not.
    """
    from transformers import AutoFeatureExtractor, Wav2Vec2BertConfig, Wav2Vec2BertModel

    package = neucodec(Rotary)
    config: Mapping[str, Any] = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    semantic = Wav2Vec2BertConfig.from_pretrained(directory / _SEMANTIC, local_files_only=True)
    semantic.num_hidden_layers = _SEMANTIC_LAYERS
    semantic.output_hidden_states = True
    decoder = {"hidden_dim": 1024, **config.get("decoder", {})}
    encoder = {"hidden_dim": 1024, **config.get("encoder", {})}
    # Its own constructor downloads; this is what it does besides, as DistillNeuCodec does it.
    network = object.__new__(package.NeuCodec)
    nn.Module.__init__(network)
    network.feature_extractor = AutoFeatureExtractor.from_pretrained(
        directory / _SEMANTIC, local_files_only=True
    )
    with warnings.catch_warnings():
        # neucodec 0.0.6 has the names of the weights from the older of the two.
        warnings.filterwarnings("ignore", r"`torch\.nn\.utils\.weight_norm` is deprecated")
        network.semantic_model = Wav2Vec2BertModel(semantic)
        width = semantic.hidden_size
        network.SemanticEncoder_module = package.module.SemanticEncoder(width, width, width)
        network.CodecEnc = package.codec_encoder.CodecEncoder(**encoder)
        network.generator = package.codec_decoder_vocos.CodecDecoderVocos(
            hop_length=SAMPLES_OUT, vq_dim=_LATENT, **decoder
        )
        network.fc_prior = nn.Linear(width + encoder["hidden_dim"], _LATENT)
        network.fc_post_a = nn.Linear(_LATENT, decoder["hidden_dim"])
    built: nn.Module = network
    return built


def _files(directory: Path) -> list[Path]:
    """The weights, then all else that decides what the codec gives."""
    weights = next((directory / n for n in _WEIGHTS if (directory / n).is_file()), None)
    settings = [
        directory / "config.json",
        *(directory / _SEMANTIC / n for n in ("config.json", "preprocessor_config.json")),
    ]
    missing = [path for path in settings if not path.is_file()]
    if weights is None or missing:
        lost = ", ".join(map(str, missing)) or f"{directory / _WEIGHTS[1]} or {_WEIGHTS[0]}"
        raise FileNotFoundError(f"a NeuCodec needs {lost}; {_advice(directory)}")
    return [weights, *settings]


def _advice(directory: Path) -> str:
    return (
        f"run `hf download neuphonic/neucodec {_WEIGHTS[1]} --local-dir {directory}` and `hf "
        f"download facebook/{_SEMANTIC} config.json preprocessor_config.json model.safetensors "
        f"--local-dir {directory / _SEMANTIC}` where there is a network"
    )


def _read_weights(path: Path) -> dict[str, Tensor]:
    from transformers.modeling_utils import load_state_dict

    # weights_only: a file that would run code is refused.
    read: dict[str, Tensor] = load_state_dict(str(path), map_location="cpu", weights_only=True)
    return read


def _digest(files: Iterable[Path]) -> str:
    total = hashlib.sha256(json.dumps(dict(CODECS["neucodec"].packages)).encode())
    for path in files:
        with path.open("rb") as file:
            total.update(path.name.encode() + b"\0" + hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()
