"""The marks of a complete output, held against what is published.

Where the manifest and a file disagree, one of the two is damaged. `_SUCCESS` holds the manifest's
digest: if it vouches for the manifest, the file is at fault, and no repair may hide that.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from pipeline import manifest
from pipeline.findings import REPAIR, RESCORE, RESUME, Finding
from pipeline.layout import MANIFEST, SUCCESS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from pipeline.published import Inventory
    from pipeline.storage import Storage

_GONE = "restore the file; if it was removed on purpose, run `verify --repair`"


def check(
    output: Storage,
    inventory: Inventory,
    expected: bytes,
    missing: int,
    planned: Collection[str],
    suspects: Collection[str],
) -> tuple[list[Finding], list[Finding]]:
    """Compares the manifest and `_SUCCESS`, as far as they are there, with published files.

    Args:
        output: The output.
        inventory: What it holds.
        expected: The manifest that the published files make.
        missing: Planned shards that are not published.
        planned: Names of the planned shards.
        suspects: Files that were found at fault; what the manifest says of them adds nothing.

    Returns:
        Faults of the marks, which can be made anew; and faults of files, which cannot.
    """
    stored = output.read(MANIFEST) if MANIFEST in inventory.marks else None
    line = output.read(SUCCESS) if SUCCESS in inventory.marks else None
    faults = [] if line is None else list(_of_success(line, stored, inventory, missing))
    if stored is None or stored == expected:
        return faults, []
    plan_id = _plan_id(line)
    # Without a word on it the manifest is taken to be right, so that no damage is repaired away.
    trusted = line is None or (plan_id is not None and line == manifest.success(plan_id, stored))
    differing = manifest.differences(stored, expected)
    if not differing:
        return [*faults, Finding(MANIFEST, "is damaged", "a manifest", "other bytes", REPAIR)], []
    of_files: list[Finding] = []
    for name, (was, now) in differing.items():
        if not name:
            if len(differing) == 1:
                faults.append(Finding(MANIFEST, "says otherwise", now, was, REPAIR))
        elif name in suspects or (name in planned and name not in inventory.files):
            continue
        elif name not in inventory.files:
            faults.append(Finding(name, "listed in the manifest, but gone", was, now, _GONE))
        elif trusted and was != manifest.NOT_LISTED:
            of_files.append(Finding(name, "not what the manifest says", was, now, RESCORE))
        else:
            faults.append(Finding(MANIFEST, f"says otherwise of {name}", now, was, REPAIR))
    return faults, of_files


def _of_success(
    line: bytes, stored: bytes | None, inventory: Inventory, missing: int
) -> Iterator[Finding]:
    plan_id = _plan_id(line)
    if plan_id is None:
        yield Finding(SUCCESS, "is damaged", "a line of JSON", "other bytes", REPAIR)
    elif stored is None:
        yield Finding(SUCCESS, "there without a manifest", MANIFEST, "no file", REPAIR)
    elif line != manifest.success(plan_id, stored):
        wanted, got = "the digest of the manifest", "another digest"
        yield Finding(SUCCESS, "vouches for another manifest", wanted, got, REPAIR)
    elif inventory.plans and plan_id not in inventory.plans:
        wanted = "a plan of this output"
        yield Finding(SUCCESS, "names an unknown plan", wanted, plan_id, REPAIR)
    if missing:
        wanted, got = "all shards published", f"{missing:,} are not"
        yield Finding(SUCCESS, "there, though work is left", wanted, got, RESUME)


def _plan_id(line: bytes | None) -> str | None:
    try:
        return None if line is None else str(json.loads(line)["plan_id"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
