"""Windows of talks read back from shards: every frame, in step with masks, fits and features, shared out without repeats."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from pipelines.clips import read_masks
from pipelines.formats import load_fit
from pipelines.media import frames as read_frames
from pipelines.shards import write_talk_shards
from pipelines.windows import ClipWindows, collate_windows, starts


@pytest.fixture
def talks(corpus):
    """Shards of six clips of one speaker in training, and their folder."""
    config, store = corpus
    talk = store.talks()[0]
    first = store.clips(talk)[0]
    for number in range(1, 6):
        copy = store.clip(talk, f"{talk}-00{number}")
        copy.mkdir()
        for path in first.iterdir():
            (copy / path.name).write_bytes(path.read_bytes())
    write_talk_shards(config, store)
    return store, store.shards("talks"), first


def test_windows_hold_the_clips_content(talks):
    _, folder, clip = talks
    window = next(iter(ClipWindows(folder, "train", 10, stride=7, size=64)))
    second = list(ClipWindows(folder, "train", 10, stride=7, size=64))[1]
    assert (int(window.start), int(second.start)) == (0, 7)
    fit, features = load_fit(clip / "fit.npz"), load_features_of(clip)
    pictures, masks = np.stack(list(read_frames(clip / "clip.mp4"))), read_masks(clip / "mask.npz")
    span = slice(7, 17)
    np.testing.assert_array_equal(second.frames.numpy(), pictures[span])
    np.testing.assert_array_equal(second.masks.numpy() > 127, masks[span])
    torch.testing.assert_close(second.params.body_pose, fit.params.body_pose[span])
    torch.testing.assert_close(second.confidence, fit.confidence[span])
    np.testing.assert_array_equal(second.features.numpy(), features[span])
    assert float(second.fps) == 25.0


def load_features_of(clip) -> np.ndarray:
    with np.load(clip / "features.npz", allow_pickle=False) as npz:
        return npz["features"]


def test_the_camera_follows_the_size(talks):
    _, folder, _ = talks
    large, small = (next(iter(ClipWindows(folder, "train", 4, size=size))) for size in (64, 32))
    point = large.params.transl[0][None]
    torch.testing.assert_close(large.camera.project(point)[0], 2 * small.camera.project(point)[0])
    assert small.frames.shape == (4, 32, 32, 3)


def test_every_frame_is_in_a_window():
    for count in range(1, 40):
        for frames in (1, 3, 8):
            for stride in (None, 1, 2, 5):
                begins = starts(count, frames, stride)
                seen = {i for b in begins for i in range(b, b + frames)}
                step = stride or frames
                assert seen == (set() if count < frames else seen)
                assert count < frames or (max(seen) == count - 1 and (step > frames or seen == set(range(count))))


@pytest.mark.parametrize("workers", [0, 2])
def test_workers_and_processes_share_the_windows_out(talks, workers):
    _, folder, _ = talks
    every = [(w.id[0], int(w.start)) for w in ClipWindows(folder, "train", 8, size=16)]
    got = []
    for rank in range(2):
        windows = ClipWindows(folder, "train", 8, size=16, seed=3, rank=rank, world=2)
        for batch in DataLoader(windows, 2, num_workers=workers, collate_fn=collate_windows):
            assert batch.frames.shape[1:] == (8, 16, 16, 3)
            got += zip(batch.id, batch.start.tolist(), strict=True)
    assert sorted(got) == sorted(every)
    assert len(every) == len(ClipWindows(folder, "train", 8, size=16)) == 18


def test_the_order_follows_from_seed_and_epoch(talks):
    _, folder, _ = talks

    def order(seed, epoch=0):
        windows = ClipWindows(folder, "train", 8, size=16, seed=seed)
        windows.set_epoch(epoch)
        return [(w.id[0], int(w.start)) for w in windows]

    assert order(1) == order(1)
    assert order(1) != order(1, epoch=1) != order(2)
    assert sorted(order(1)) == sorted(order(1, epoch=1))


def test_short_clips_are_named_and_none_at_all_is_refused(talks):
    _, folder, _ = talks
    with pytest.raises(ValueError, match="clip of 25 frames or more in split 'train'"):
        ClipWindows(folder, "train", 25)
    with pytest.raises(ValueError, match="rank below world"):
        ClipWindows(folder, "train", 8, rank=2, world=2)
    with pytest.raises(ValueError, match="with a manifest"):
        ClipWindows(folder / "absent", "train", 8)
    manifest = json.loads((folder / "manifest.json").read_text())
    id = manifest["splits"]["train"][0]
    manifest["items"][id]["frames"] = 3
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.warns(UserWarning, match="1 of 6 clips are shorter than 8"):
        assert ClipWindows(folder, "train", 8).too_short == [id]
