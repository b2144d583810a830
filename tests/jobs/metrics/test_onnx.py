import numpy as np
import pytest

from jobs.metrics.dnsmos import P835_FILE, WINDOW
from jobs.metrics.onnx import open_model, open_part

MAP = "mos_estimator_logpow/max_pooling2d/MaxPool_1_conv0"


def test_two_parts_are_the_whole():
    audio = np.random.default_rng(0).standard_normal((1, WINDOW)).astype(np.float32) / 20
    first = open_part("speechmos", P835_FILE, {"input_1": ("w", WINDOW)}, [MAP])
    second = open_part("speechmos", P835_FILE, {MAP: ("w", 32, "c", 40)}, ["Identity:0"])
    (inner,) = first.run([MAP], {"input_1": audio})
    assert inner.shape == (1, 32, 225, 40)
    (parts,) = second.run(None, {MAP: inner})
    (whole,) = open_model("speechmos", P835_FILE).run(None, {"input_1": audio})
    assert np.array_equal(parts, whole)


@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [
        ({"gone": (1,)}, ["Identity:0"]),  # what is computed does not need it
        ({MAP: (1, 32, 225, 40)}, ["gone"]),
        ({"Identity:0": (1, 3)}, [MAP]),  # backwards
        ({}, ["Identity:0"]),  # what is heard is left out
    ],
)
def test_values_that_the_file_does_not_hold(inputs, outputs):
    with pytest.raises(LookupError, match=r"sig_bak_ovr\.onnx' of 'speechmos' must compute"):
        open_part("speechmos", P835_FILE, inputs, outputs)


def test_one_thread():
    options = open_model("speechmos", P835_FILE).get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (1, 1)
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
