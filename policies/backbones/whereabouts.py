"""Where a checkpoint's pretrained folder is now: where one says, where it was, or where the checkpoint sees it."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from policies.backbones.folder import Backbone, BackboneError, config_of


def note_nearby(backbone: Backbone | None, checkpoint: Path) -> Backbone | None:
    """Return the description with its folder's path from the checkpoint's folder, for where both are moved together."""
    if backbone is None:
        return None
    return replace(backbone, nearby=os.path.relpath(Path(backbone.folder).expanduser().resolve(), checkpoint.resolve()))


def find(backbone: Backbone | None, kind: str, given: Path | None, checkpoint: Path) -> Backbone | None:
    """Return the description with its folder where it is: given, else where it was or where the checkpoint sees it.

    kind is what the flag and the option that give it are called. That it holds the same weights is for loading to
    check. Raise BackboneError where it is nowhere, or given for a checkpoint that has no such part.
    """
    if backbone is None:
        if given is not None:
            raise BackboneError(given, f"checkpoint {checkpoint} stands on no {kind} that it could be")
        return None
    if backbone.adapt == "full" and backbone.config:
        return _whole(backbone, given)
    if given is not None:
        return replace(backbone, folder=str(given))
    seen = [Path(backbone.folder), *([checkpoint / backbone.nearby] if backbone.nearby else [])]
    for folder in seen:
        if folder.is_dir():
            return replace(backbone, folder=str(folder))
    raise BackboneError(
        backbone.folder,
        f"no such folder, and checkpoint {checkpoint} needs it; say where it is now: "
        f"--{kind} DIR of embodied finetune, --policy-option {kind}=DIR of rollout and serve",
    )


def _whole(backbone: Backbone, given: Path | None) -> Backbone:
    """Return the description as it is: the checkpoint has all of it, so what is given only must not be another kind."""
    mine, other = config_of(backbone), given and config_of(Backbone(str(given)))
    if mine and other and mine is not other:
        raise BackboneError(str(given), f"its config is a {other.__name__}; the policy's is a {mine.__name__}")
    return backbone
