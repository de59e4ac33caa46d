#!/usr/bin/env python3
"""Makes keras.onnx of tests/fixtures/onnx: a small Keras classifier, exported by Keras itself through tf2onnx, an
input for it, and what onnxruntime gives for it, which Keras must give, too.

usage: make-keras-fixture.py FOLDER

It needs an environment of its own, as TensorFlow is large:
pip install tensorflow-cpu==2.21.0 keras==3.15.1 tf2onnx==1.17.0 onnx==1.23.2 onnxruntime==1.32.0
"""
import os
import sys
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import keras
import numpy as np
import onnxruntime
from keras import layers


def network() -> keras.Model:
    """Images of bytes as floats, channels last, as `keras.applications` has them."""
    x = image = keras.Input((12, 10, 3), name="image")
    x = layers.Rescaling(1 / 127.5, offset=-1)(x)
    x = layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False)(x)
    x = layers.BatchNormalization()(x)
    x = layers.ReLU(max_value=6)(x)
    x = layers.ZeroPadding2D(((0, 1), (0, 1)))(x)
    x = layers.DepthwiseConv2D(3, strides=2, use_bias=False)(x)
    x = layers.BatchNormalization()(x)
    x = layers.Activation("swish")(x)
    x = layers.Add()([x, layers.Conv2D(8, 1)(x)])
    x = layers.MaxPooling2D(2, strides=1, padding="same")(x)
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dropout(0.2)(x)
    return keras.Model(image, layers.Dense(5, activation="softmax")(x))


def main(folder: Path) -> None:
    keras.utils.set_random_seed(3)
    random = np.random.default_rng(3)
    net = network()
    for layer in net.layers:
        if isinstance(layer, layers.BatchNormalization):
            scale, shift, mean, variance = layer.get_weights()
            layer.set_weights([random.uniform(0.5, 1.5, scale.shape), random.normal(0, 0.3, shift.shape),
                               random.normal(0, 0.3, mean.shape), random.uniform(0.5, 1.5, variance.shape)])
    images = random.integers(0, 256, (3, 12, 10, 3)).astype(np.float32)
    predicted = net.predict(images, verbose=0)
    path = folder / "keras.onnx"
    net.export(str(path), format="onnx", verbose=False)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    [output] = session.run(None, {session.get_inputs()[0].name: images})
    np.testing.assert_allclose(output, predicted, atol=1e-5)
    np.save(path.with_suffix(".input.npy"), images)
    np.save(path.with_suffix(".output.npy"), output)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
