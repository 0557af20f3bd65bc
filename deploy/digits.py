"""A small real model: a neural network that reads handwritten digits, kept as safetensors.

::

    python deploy/digits.py train FOLDER             learn from half of the training images
    python deploy/digits.py finetune SOURCE FOLDER   go on from SOURCE's weights with all of them
    python deploy/digits.py accuracy FOLDER          how many unseen images are read right, 0 to 1

The images are scikit-learn's: 1,797 of 8 × 8 grey pixels, of which a quarter is kept unseen.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

Floats = NDArray[np.float32]
LAYERS = (256, 128)
CARD = """\
---
title: Handwritten digits
description: Reads handwritten digits from small grey images. 手写数字识别模型。
license: apache-2.0
language: [en, zh]
library_name: scikit-learn
tags: [digits, image-classification]
datasets: [scikit-learn/digits]
---
# Handwritten digits

A multilayer perceptron that reads a digit from an 8 × 8 grey image.

这个模型从 8 × 8 的灰度图像中识别手写数字。
"""


def images() -> tuple[Floats, Floats, NDArray[np.int64], NDArray[np.int64]]:
    """Training images, unseen images (both scaled to 0 to 1), and the digits on each."""
    pixels, digits = load_digits(return_X_y=True)
    parts = train_test_split((pixels / 16).astype(np.float32), digits, random_state=0)
    return parts[0], parts[1], parts[2], parts[3]


def train(folder: Path) -> None:
    """Learn from the first half of the training images."""
    known, _, digits, _ = images()
    half = len(known) // 2
    network = MLPClassifier(LAYERS, max_iter=20, random_state=0)
    with warnings.catch_warnings(action="ignore", category=ConvergenceWarning):
        network.fit(known[:half], digits[:half])
    save(network, folder)


def finetune(source: Path, folder: Path) -> None:
    """Go on from the weights in ``source`` with all training images."""
    known, _, digits, _ = images()
    network = MLPClassifier(LAYERS, learning_rate_init=0.0005, random_state=0)
    network.partial_fit(known[:1], digits[:1], classes=np.arange(10))
    weights = load_file(source / "model.safetensors")
    network.coefs_ = [weights[f"layers.{i}.weight"] for i in range(network.n_layers_ - 1)]
    network.intercepts_ = [weights[f"layers.{i}.bias"] for i in range(network.n_layers_ - 1)]
    for _ in range(20):
        network.partial_fit(known, digits)
    save(network, folder)


def save(network: MLPClassifier, folder: Path) -> None:
    """Write weights, configuration and card, as models are published elsewhere too."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {f"layers.{i}.weight": layer for i, layer in enumerate(network.coefs_)}
    weights |= {f"layers.{i}.bias": layer for i, layer in enumerate(network.intercepts_)}
    save_file(weights, folder / "model.safetensors")
    config = {"model_type": "mlp", "hidden_sizes": LAYERS, "activation": "relu", "inputs": 64}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(CARD, encoding="utf-8")


def accuracy(folder: Path) -> float:
    """The part of unseen images that the weights in ``folder`` read right, 0 to 1."""
    _, unseen, _, digits = images()
    weights = load_file(folder / "model.safetensors")
    last = len(weights) // 2 - 1
    signal = unseen
    for i in range(last + 1):
        signal = signal @ weights[f"layers.{i}.weight"] + weights[f"layers.{i}.bias"]
        signal = np.maximum(signal, 0) if i < last else signal
    return float((signal.argmax(axis=1) == digits).mean())


def main() -> None:
    """Run one of the three commands, and print how good its model is."""
    match sys.argv[1:]:
        case ["train", folder]:
            train(Path(folder))
        case ["finetune", source, folder]:
            finetune(Path(source), Path(folder))
        case ["accuracy", folder]:
            pass
        case _:
            sys.exit(__doc__)
    print(f"accuracy {accuracy(Path(folder)):.4f}")


if __name__ == "__main__":
    main()
