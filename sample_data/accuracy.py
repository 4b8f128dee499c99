"""Tells how many of the digits that no model was trained on were named rightly.

    python sample_data/accuracy.py OUT

OUT is what `make score-digits` wrote. It is read with pandas, as anybody would read it.
"""

import sys
import tomllib
from pathlib import Path

import pandas as pd

JOB = Path(__file__).resolve().parent / "digit_images.toml"


def main(output: str) -> None:
    """Compares the names that were written with the labels that came along."""
    names = tomllib.loads(JOB.read_text())["labels"]
    digits = pd.read_parquet(Path(output) / "unseen.parquet")
    truth = digits["label"].map(lambda label: names[label])
    right = digits["probabilities_label"] == truth
    near = [
        name in likeliest
        for name, likeliest in zip(truth, digits["probabilities_top_labels"], strict=True)
    ]
    print(
        f"accuracy: {right.mean():.4f} of {len(digits)} digits not seen in training; "
        f"among the three likeliest: {sum(near) / len(near):.4f}"
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
