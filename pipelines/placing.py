"""Motion of a person told relative to where they stand, and put where somebody else stands. Axes: T frames."""

from __future__ import annotations

import roma

from model.types import SmplxParams


def placed(motion: SmplxParams, reference: SmplxParams) -> SmplxParams:
    """Motion [T] of a person at rest at the origin → the frame in which `reference` [1] stands, with its shape."""
    rest = roma.rotvec_to_rotmat(reference.global_orient)
    orient = roma.rotmat_to_rotvec(rest @ roma.rotvec_to_rotmat(motion.global_orient))
    fields = {name: getattr(motion, name) for name in motion.__dataclass_fields__}
    fields |= {
        "global_orient": orient,
        "transl": reference.transl + motion.transl @ rest[0].T,
        "betas": reference.betas.expand_as(motion.betas),
    }
    return SmplxParams(**fields)


def unplaced(params: SmplxParams, reference: SmplxParams) -> SmplxParams:
    """The inverse: motion [T] relative to where `reference` [1] stands."""
    rest = roma.rotvec_to_rotmat(reference.global_orient)
    orient = roma.rotmat_to_rotvec(rest.mT @ roma.rotvec_to_rotmat(params.global_orient))
    fields = {name: getattr(params, name) for name in params.__dataclass_fields__}
    return SmplxParams(**{**fields, "global_orient": orient, "transl": (params.transl - reference.transl) @ rest[0]})
