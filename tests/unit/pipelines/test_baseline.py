import numpy as np
import roma
import torch

from configs import Config
from model.motion import motion_vector, params_from_motion
from model.types import SMPLX_SHAPES, SmplxParams
from pipelines.baseline import placed, train
from pipelines.formats import FitFile, make_camera
from pipelines.motions import Motion


def still_life(frames=90, seed=0):
    g = torch.Generator().manual_seed(seed)
    fields = {n: 0.2 * torch.randn(1, *s, generator=g).expand(frames, *s).clone() for n, s in SMPLX_SHAPES.items()}
    return SmplxParams(**fields)


def test_placing_keeps_the_motion_and_moves_the_person(body):
    from model.audio_to_motion import rest_of

    motion = still_life(5)
    motion.global_orient[:, 1] += torch.linspace(0, 0.3, 5)
    motion.transl[:, 0] += torch.linspace(0, 0.2, 5)
    rest = rest_of(motion)
    own = params_from_motion(motion_vector(motion, rest), SmplxParams.zeros())
    reference = SmplxParams.zeros(1)
    reference.global_orient[0] = torch.tensor([3.0, 0.1, 0.0])
    reference.transl[0] = torch.tensor([0.1, 0.4, 2.5])
    reference.betas[0, 0] = 1.0
    moved = placed(own, reference)
    # at rest the person stands exactly as pictured
    still = placed(SmplxParams.zeros(1), reference)
    torch.testing.assert_close(body.joints(still), body.joints(reference), atol=1e-5, rtol=0)
    # and shares of the path are kept: the same rotation relative to the first frame
    turn = roma.rotvec_to_rotmat(moved.global_orient)
    torch.testing.assert_close(
        turn[0].T @ turn[-1], roma.rotvec_to_rotmat(own.global_orient[0]).T @ roma.rotvec_to_rotmat(own.global_orient[-1])
    )
    torch.testing.assert_close((moved.transl[-1] - moved.transl[0]).norm(), (own.transl[-1] - own.transl[0]).norm())


def clip_that_opens_its_mouth_with_sound(seed):
    rng = np.random.default_rng(seed)
    loud = np.repeat(rng.random(12), 8).astype(np.float32)
    params = still_life(len(loud), seed=3)
    params.jaw_pose[:, 0] = torch.from_numpy(0.3 * loud)
    features = torch.from_numpy(np.stack([loud, rng.random(len(loud))], 1).astype(np.float32))
    fit = FitFile(params, make_camera(torch.eye(4), torch.ones(2), torch.zeros(2), torch.tensor([8, 8])), torch.ones(len(loud)), 25)
    return Motion(f"clip{seed}", "someone", fit, features, np.zeros(10, np.float32), {})


def test_the_network_learns_what_the_sound_drives_and_repeats_itself():
    config = Config(baseline={"steps": 150, "width": 32, "layers": 2, "batch": 4, "learning_rate": 5e-3})
    clips = [clip_that_opens_its_mouth_with_sound(i) for i in range(3)]
    network, losses = train(config, clips)
    assert losses[-1] < 0.3 * losses[0]
    unseen = clip_that_opens_its_mouth_with_sound(9)
    with torch.no_grad():
        jaw = network(unseen.features[None])[0, :, 22 * 6 + 5]  # sine of the jaw's opening
    assert np.corrcoef(jaw.numpy(), unseen.features[:, 0].numpy())[0, 1] > 0.8
    again, _ = train(config, clips)
    assert all(torch.equal(a, b) for a, b in zip(network.state_dict().values(), again.state_dict().values(), strict=True))
