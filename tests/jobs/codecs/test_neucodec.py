"""NeuCodec from a directory: the package's own network, without the model hub."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from jobs import vendor
from jobs.codecs.codec import load_codec
from jobs.codecs.neucodec import LOOK_AHEAD, SAMPLES_OUT, Rotary
from tests.jobs.codecs.tiny_neucodec import write_neucodec

RATE = 16_000


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return write_neucodec(tmp_path_factory.mktemp("codecs") / "neucodec")


@pytest.fixture(scope="module")
def codec(directory):
    return load_codec(directory)


@pytest.fixture
def copy(directory, tmp_path):
    return shutil.copytree(directory, tmp_path / "neucodec")


def noise(samples):
    return np.random.default_rng(1).standard_normal(samples).astype(np.float32) / 10


def test_it_is_the_packages_own_path(codec):
    audio = noise(RATE)
    with torch.no_grad():
        codes = codec._network.encode_code(torch.from_numpy(audio)[None, None])
        heard = codec._network.decode_code(codes)
    assert type(codec._network).__module__ == "neucodec.model"
    assert codec.encode(audio, RATE).tolist() == codes[0, 0].tolist()
    assert np.array_equal(codec.decode(codes[0, 0].numpy()), heard[0, 0].clamp(-1, 1).numpy())


def test_centroids_are_as_far_apart_as_the_decoder_finds_codes(codec):
    codes = torch.tensor([0, 1, 4, 255, 4096, 65_535, 30_001])
    network = codec._network
    with torch.no_grad():
        read = network.fc_post_a(
            network.generator.quantizer.get_output_from_indices(codes[None, :, None])
        )[0]
    assert codec.centroids().shape == (codec.codebook_size, 8)
    points = torch.from_numpy(codec.centroids())[codes]
    apart = torch.cdist(points, points)
    torch.testing.assert_close(apart, torch.cdist(read, read), rtol=1e-4, atol=1e-5)


def test_a_pickle_of_tensors_alone_gives_the_same(codec, copy):
    weights = load_file(copy / "model.safetensors")
    torch.save(weights, copy / "pytorch_model.bin")
    (copy / "model.safetensors").unlink()
    again = load_codec(copy)
    assert again.digest != codec.digest
    assert np.array_equal(again.encode(noise(RATE), RATE), codec.encode(noise(RATE), RATE))


def test_the_semantic_model_may_be_beside_the_weights(codec, copy):
    weights = load_file(copy / "model.safetensors")
    first = "semantic_model."
    semantic = {n.removeprefix(first): of for n, of in weights.items() if n.startswith(first)}
    rest = {name: of for name, of in weights.items() if not name.startswith(first)}
    save_file({**rest, "fc_post_s.weight": torch.zeros(2)}, copy / "model.safetensors")
    with pytest.raises(FileNotFoundError, match=r"needs .*w2v-bert-2.0/model.safetensors; run `hf"):
        load_codec(copy)
    save_file(semantic, copy / "w2v-bert-2.0" / "model.safetensors")
    assert np.array_equal(
        load_codec(copy).encode(noise(RATE), RATE), codec.encode(noise(RATE), RATE)
    )


def test_what_is_missing_is_named(copy):
    weights = load_file(copy / "model.safetensors")
    lost = "fc_post_a.weight"
    save_file({n: of for n, of in weights.items() if n != lost}, copy / "model.safetensors")
    with pytest.raises(ValueError, match=f"must hold all weights of a NeuCodec, but {lost} and 1 "):
        load_codec(copy)
    (copy / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"pytorch_model\.bin or model\.safetensors; run"):
        load_codec(copy)


def test_other_sizes_than_the_weights(copy):
    config = json.loads((copy / "config.json").read_text())
    config["decoder"]["hidden_dim"] = 32
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"size mismatch .*; correct config\.json"):
        load_codec(copy)


def test_the_digest_follows_every_file(codec, copy):
    seen = {codec.digest}
    for name in ("config.json", "w2v-bert-2.0/preprocessor_config.json"):
        path = copy / name
        path.write_text(path.read_text() + " ")
        seen.add(load_codec(copy).digest)
    assert len(seen) == 3


def test_a_window_gives_its_own_part(codec, monkeypatch):
    """With a decoder that looks at one code alone, pieces are the whole."""
    step = np.linspace(0, 0.5, SAMPLES_OUT, dtype=np.float32)
    decoded = []

    def decode(codes):
        decoded.append(len(codes))
        return (codes[:, None] / 65_536 + step).astype(np.float32).ravel()

    monkeypatch.setattr(codec, "decode", decode)
    codes = np.random.default_rng(0).integers(0, 65_536, 200)
    for size in (1, 25, 90):
        chunks = [codes[at : at + size] for at in range(0, len(codes), size)]
        assert np.array_equal(np.concatenate([*codec.decode_stream(chunks)]), decode(codes))
    assert max(decoded[:-1]) <= 200
    decoded.clear()
    [*codec.decode_stream(codes[at : at + 1] for at in range(200))]
    assert max(decoded) == 50 + 1 + LOOK_AHEAD  # however long the clip becomes


def test_positions_turn_as_in_torchtune():
    """By a loop over its formula; the second dimension is the place."""
    x = torch.randn(2, 5, 3, 8, generator=torch.Generator().manual_seed(0))
    turned = Rotary(8)(x)
    for place in range(5):
        for pair in range(4):
            angle = torch.tensor(place / 10_000 ** (2 * pair / 8))
            one, two = x[:, place, :, 2 * pair], x[:, place, :, 2 * pair + 1]
            wanted = (one * angle.cos() - two * angle.sin(), two * angle.cos() + one * angle.sin())
            torch.testing.assert_close(turned[:, place, :, 2 * pair], wanted[0])
            torch.testing.assert_close(turned[:, place, :, 2 * pair + 1], wanted[1])


@pytest.mark.parametrize(
    ("found", "said"),
    [(None, "neucodec, which is not installed; run `pip"), ("9", "must be version 0.0.6, got 9")],
)
def test_another_version_is_refused_with_the_command(found, said, monkeypatch):
    def version(package):
        if found is None:
            raise vendor.PackageNotFoundError(package)
        return found

    monkeypatch.setattr(vendor, "version", version)
    with pytest.raises(ImportError, match=said):
        vendor.neucodec(Rotary)
