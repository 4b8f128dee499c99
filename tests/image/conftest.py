"""The image, built once for all tests of it, and its file system, seen from outside."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.image.building import IMAGE, make_base, make_image, missing, podman

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of the image; a test whose tools are missing fails, and says which they are."""
    if lacking := missing():
        pytest.fail(lacking, pytrace=False)
    make_base()
    make_image(tmp_path_factory.mktemp("pip"))
    return IMAGE


@pytest.fixture(scope="session")
def root(image: str) -> Iterator[Path]:
    """Its file system, mounted. Links in it lead to places out here: follow none."""
    yield Path(podman("image", "mount", image))
    podman("image", "unmount", image)
