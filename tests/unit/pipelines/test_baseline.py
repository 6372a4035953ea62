from fractions import Fraction

import numpy as np
import pytest
import roma
import torch

from configs import Config
from model.audio_to_motion import AudioToMotion
from model.motion import MOTION, motion_vector, params_from_motion
from model.types import SMPLX_SHAPES, SmplxParams
from pipelines.baseline import train
from pipelines.baseline_training import learned_from, load_network, save_network
from pipelines.motion_shards import MotionClip
from pipelines.placing import placed
from pipelines.store import InputRejected


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
    return MotionClip(f"clip{seed}", "someone", params, torch.ones(len(loud)), features, Fraction(25))


def test_the_network_learns_what_the_sound_drives_and_repeats_itself():
    settings = {"steps": 100, "codes": 16, "width": 32, "layers": 2, "batch": 4, "learning_rate": 4e-3}
    config = Config(baseline=settings)
    clips = [clip_that_opens_its_mouth_with_sound(i) for i in range(3)]
    network, losses = train(config, clips)
    assert losses[-1] < 0.6 * losses[0]
    unseen = clip_that_opens_its_mouth_with_sound(9)
    motion = network.generate(unseen.features)
    assert motion.shape == (96, MOTION)
    assert np.corrcoef(motion[:, 22 * 6 + 5].numpy(), unseen.features[:, 0].numpy())[0, 1] > 0.7  # sine of the jaw's opening
    assert torch.equal(network.generate(unseen.features), motion)


def test_the_same_clips_and_seed_give_the_same_network():
    config = Config(baseline={"steps": 3, "codes": 8, "width": 16, "layers": 1, "batch": 2})
    clips = [clip_that_opens_its_mouth_with_sound(i) for i in range(2)]
    first, second = (train(config, clips)[0].state_dict().values() for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_saved_weights_speak_as_before_and_say_what_they_learned_from(tmp_path):
    config = Config(baseline={"steps": 3, "codes": 8, "width": 16, "layers": 1, "batch": 2})
    clips = [clip_that_opens_its_mouth_with_sound(i) for i in range(2)]
    network = train(config, clips)[0]
    save_network(tmp_path / "baseline.safetensors", network, config, learned_from(config, clips, 3))
    loaded, learned = load_network(tmp_path / "baseline.safetensors")
    assert torch.equal(loaded.generate(clips[0].features), network.generate(clips[0].features))
    assert (learned["clips"], learned["speakers"], learned["steps"]) == (2, 1, 3)
    with pytest.raises(InputRejected, match=r"baseline\.start_from: expected .*absent"):
        load_network(tmp_path / "absent.safetensors")
    (tmp_path / "other.safetensors").write_bytes(b"none of ours")
    with pytest.raises(ValueError, match="expected weights"):
        load_network(tmp_path / "other.safetensors")


def test_speech_shorter_and_longer_than_a_window_gives_as_many_frames():
    network = AudioToMotion(2, 32, 1, 8, 3).eval()
    for frames in (1, 30, 64, 65, 151):
        assert network.generate(torch.rand(frames, 2)).shape == (frames, MOTION)
