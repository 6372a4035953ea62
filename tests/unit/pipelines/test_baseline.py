from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import roma
import torch

from configs import Config
from configs.places import from_project
from configs.schema import load_config
from model.audio_encoders import OfflineEncoder
from model.audio_to_motion import AudioToMotion
from model.motion import MOTION, motion_vector, params_from_motion
from model.types import SMPLX_SHAPES, SmplxParams
from pipelines.baseline import train
from pipelines.baseline_training import Corpus, judged, learned_from, load_network, one_cycle, save_network
from pipelines.export import export_half
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


def test_training_goes_on_from_weights_with_their_codes_in_the_manner_of_new_speakers(tmp_path):
    small = {"codes": 8, "width": 16, "layers": 1, "batch": 2}
    config = Config(baseline={**small, "steps": 3})
    first = [replace(clip_that_opens_its_mouth_with_sound(i), group=f"speaker{i}") for i in range(3)]
    begun = train(config, first)[0]
    save_network(tmp_path / "a.safetensors", begun, config, learned_from(config, first, 3))
    # its sizes are the file's, whatever the settings say
    config = Config(baseline={"steps": 1, "learning_rate": 1e-9, "batch": 2, "width": 64, "start_from": str(tmp_path / "a.safetensors")})
    others = [clip_that_opens_its_mouth_with_sound(7)]
    gone_on = train(config, others)[0]
    assert gone_on.style.weight.shape == (1, 16)
    torch.testing.assert_close(gone_on.style.weight[0], begun.style.weight.mean(0), atol=1e-5, rtol=0)
    kept = {n: x for n, x in begun.state_dict().items() if not n.startswith("style")}
    for name, value in kept.items():
        torch.testing.assert_close(gone_on.state_dict()[name], value, atol=1e-5, rtol=0, msg=name)
    save_network(tmp_path / "b.safetensors", gone_on, config, learned_from(config, others, 1))
    learned = load_network(tmp_path / "b.safetensors")[1]
    assert (learned["clips"], learned["before"]["clips"], learned["before"]["speakers"]) == (1, 3, 3)
    with pytest.raises(ValueError, match="0 steps take weights as they are, expected start_from"):
        Config(baseline={"steps": 0})


def test_half_precision_keeps_the_codes_and_speaks_nearly_as_before(tmp_path):
    config = Config(baseline={"steps": 20, "codes": 8, "width": 16, "layers": 1, "batch": 2})
    clips = [clip_that_opens_its_mouth_with_sound(i) for i in range(2)]
    network = train(config, clips)[0]
    save_network(tmp_path / "whole.safetensors", network, config, learned_from(config, clips, 20))
    export_half(tmp_path / "whole.safetensors", tmp_path / "half.safetensors")
    half = load_network(tmp_path / "half.safetensors")[0]
    assert torch.equal(half.motion["hands"].codebooks, network.motion["hands"].codebooks)
    face = slice(22 * 6, 25 * 6)  # drawn codes may differ where two are as likely
    torch.testing.assert_close(half.generate(clips[0].features)[:, face], network.generate(clips[0].features)[:, face], atol=2e-2, rtol=0)


def test_a_batch_holds_whole_windows_of_clips_of_any_length():
    clips = [clip_that_opens_its_mouth_with_sound(i) for i in range(3)]
    clips[1] = replace(clips[1], params=clips[1].params[:70], features=clips[1].features[:70], group="another")
    corpus = Corpus.of(clips, "cpu")
    audio, motion, style = corpus.windows(np.array([[0.0, 0.0], [0.5, 1 - 1e-9], [0.99, 1 - 1e-9]]))
    assert audio.shape == (3, 64, 2)
    assert motion.shape == (3, 64, MOTION)
    whole = corpus.vectors()
    for got, wanted in zip(motion, (whole[0][:64], whole[1][-64:], whole[2][-64:]), strict=True):
        assert torch.equal(got, wanted)
    assert style.tolist() == [1, 0, 1]


def test_training_may_be_told_when_to_end():
    config = Config(baseline={"steps": 100_000, "codes": 8, "width": 16, "layers": 1, "batch": 2})
    clips = [clip_that_opens_its_mouth_with_sound(i) for i in range(2)]
    network, losses = train(config, clips, held_out=clips[:1], seconds=1.5)
    assert 1 < len(losses) < 5_000
    assert not network.training
    assert one_cycle(0.0) < 0.1
    assert one_cycle(0.1) == 1
    assert one_cycle(1.0) < 1e-6  # its step size has gone to nothing


def test_held_out_speakers_are_judged_without_a_manner_and_leave_no_trace():
    config = Config(baseline={"steps": 3, "codes": 8, "width": 16, "layers": 1, "batch": 2})
    clips = [replace(clip_that_opens_its_mouth_with_sound(i), group=f"speaker{i}") for i in range(3)]
    network = train(config, clips)[0]
    before = {n: x.clone() for n, x in network.state_dict().items()}
    held_out = Corpus.of([clip_that_opens_its_mouth_with_sound(9)], "cpu")
    first = judged(network, held_out, 0)
    assert judged(network, held_out, 0) == first
    assert all(torch.equal(x, before[n]) for n, x in network.state_dict().items())
    with torch.no_grad():  # manners that differ as much as they like about the same mean
        network.style.weight += torch.tensor([1.0, -2.0, 1.0])[:, None]
    assert judged(network, held_out, 0) == pytest.approx(first, rel=1e-4)


def test_the_shipped_baseline_is_what_the_demo_and_the_comparison_begin_with():
    demo, compared = (load_config(f"configs/{n}.yaml").baseline for n in ("sample", "small_comparison"))
    assert demo.start_from == compared.start_from
    assert compared.steps == 0
    assert from_project(demo.start_from).stat().st_size <= 10e6
    network, learned = load_network(demo.start_from)
    assert network.hear[0].in_channels == OfflineEncoder.dim
    assert learned["hours"] > 30, "as many as stage 2"
    assert learned["hours_seen"] > 2000


def test_speech_shorter_and_longer_than_a_window_gives_as_many_frames():
    network = AudioToMotion(2, 32, 1, 8, 3).eval()
    for frames in (1, 30, 64, 65, 151):
        assert network.generate(torch.rand(frames, 2)).shape == (frames, MOTION)
