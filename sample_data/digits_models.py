"""Two small digit classifiers which differ only in how `predict_step` reads its argument.

Keras does not hand `predict_step` the same thing everywhere:

* `model.predict(dataset)`, for a dataset whose elements are plain inputs, hands it `x`;
* `model.predict_on_batch(x)` hands it the tuple `(x,)`.

Keras' own `predict_step` unpacks its argument, so it takes both. A model which overrides
`predict_step` may not. `DigitsWholeData` takes its whole argument as the input. That is right
under `predict`. Under `predict_on_batch` the tuple is stacked into a batch with one extra leading
axis, and the model gives probabilities of shape (1, n, 10) and digits of shape (1, 10) with no
error. `DigitsUnpacked` unpacks as Keras does, and gives (n, 10) and (n,) under both.

The samples keep one model of each kind, so that a caller can be shown to give the right shapes
for both.

`DigitImages` takes images instead, and its `predict_step` gives its output a name.

Importing this module registers the classes, which loading their saved files needs.
"""

from typing import Any

import keras

PIXELS = 64
DIGITS = 10
BRIGHTEST = 16.0


class DigitsClassifier(keras.Model):
    """Scores images of 64 pixels, each 0 to 16, as one of ten digits.

    The scaling to 0..1 is part of the model, so callers pass the pixels as they are stored.
    The subclasses say how `predict_step` finds the pixels in what it is handed.
    """

    def __init__(self, **kwargs: Any) -> None:
        """Makes the layers; the arguments are those of `keras.Model`."""
        super().__init__(**kwargs)
        self.scale = keras.layers.Rescaling(1.0 / BRIGHTEST, name="scale")
        self.hidden = keras.layers.Dense(PIXELS, activation="relu", name="hidden")
        self.classify = keras.layers.Dense(DIGITS, activation="softmax", name="classify")

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Builds every layer, so that a loaded model has its weights before its first call."""
        self.scale.build(input_shape)
        self.hidden.build(input_shape)
        self.classify.build((*input_shape[:-1], PIXELS))
        self.built = True

    def call(self, pixels: Any) -> Any:
        """Returns the ten digits' probabilities."""
        return self.classify(self.hidden(self.scale(pixels)))

    def answer(self, pixels: Any) -> dict[str, Any]:
        """Returns what both `predict_step`s give: the probabilities and the likeliest digit."""
        probabilities = self(pixels, training=False)
        return {"probabilities": probabilities, "digit": keras.ops.argmax(probabilities, axis=1)}


@keras.saving.register_keras_serializable(package="digits")
class DigitsWholeData(DigitsClassifier):
    """Takes all of what `predict_step` is handed as the pixels.

    This suits `predict`, which hands over the pixels themselves. `predict_on_batch` hands over
    `(pixels,)`, and the shapes then silently gain a leading axis.
    """

    def predict_step(self, data: Any) -> dict[str, Any]:
        """Scores one batch, `data` being the pixels and nothing else."""
        x = data
        return self.answer(x)


@keras.saving.register_keras_serializable(package="digits")
class DigitsUnpacked(DigitsClassifier):
    """Unpacks what `predict_step` is handed, as Keras' own default does.

    Both `pixels` and `(pixels,)` are read rightly, so `predict` and `predict_on_batch` agree.
    """

    def predict_step(self, data: Any) -> dict[str, Any]:
        """Scores one batch, `data` being the pixels, alone or in a tuple."""
        x, _, _ = keras.utils.unpack_x_y_sample_weight(data)
        return self.answer(x)


@keras.saving.register_keras_serializable(package="digits")
class DigitImages(keras.Model):
    """Scores gray images of 8 x 8 pixels, each 0 to 1. Made of layers, as `keras.Model` is."""

    def predict_step(self, data: Any) -> dict[str, Any]:
        """Scores one batch: the ten digits' probabilities, by name."""
        x, _, _ = keras.utils.unpack_x_y_sample_weight(data)
        return {"probabilities": self(x, training=False)}
