import numpy as np
import pytest
from PIL import Image

from configs import Config
from pipelines.body import load_body
from pipelines.media import write_wav
from pipelines.speak import frame_count, locate, read_picture, read_speech
from pipelines.store import InputRejected


def test_speech_that_cannot_be_used_is_refused_in_one_line(tmp_path):
    for name, content in (("empty.wav", b""), ("text.mp3", b"not sound at all" * 50)):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputRejected, match=name) as caught:
            read_speech(tmp_path / name)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputRejected, match="does not exist"):
        read_speech(tmp_path / "nothing.wav")
    write_wav(tmp_path / "short.wav", np.zeros(800, np.float32))
    with pytest.raises(InputRejected, match=r"0\.05 s"):
        read_speech(tmp_path / "short.wav")


def test_a_picture_is_read_upright_and_of_bounded_size(tmp_path):
    picture = Image.fromarray(np.zeros((100, 4000, 3), np.uint8))
    exif = picture.getexif()
    exif[0x0112] = 6  # turned a quarter
    picture.save(tmp_path / "turned.jpg", exif=exif)
    assert read_picture(tmp_path / "turned.jpg").shape == (2048, 51, 3)
    (tmp_path / "broken.png").write_bytes(b"\x89PNG nothing")
    with pytest.raises(InputRejected, match=r"broken\.png"):
        read_picture(tmp_path / "broken.png")


def test_frames_cover_the_sound():
    assert frame_count(np.zeros(16000, np.float32), Config().cut.fps) == 25
    assert frame_count(np.zeros(16001, np.float32), Config().cut.fps) == 26


def test_a_picture_without_a_person_is_refused():
    with pytest.raises(InputRejected, match="nobody"):
        locate(Config(), np.full((256, 256, 3), 128, np.uint8))


@pytest.mark.realdata
def test_a_photo_is_cropped_round_the_person(realdata):
    config = Config.model_validate({"fit": {"iterations": [20, 30, 20, 30]}})
    person = locate(config, read_picture(realdata / "photo_astronaut.png"))
    assert person.cut.shape == (256, 256, 4)
    assert person.camera.size.tolist() == [[256, 256]]
    assert person.video_camera.size.tolist() == [512, 512]
    # the fitted head lies where the face is, in the upper middle of the crop
    head = load_body(config).joints(person.body)[0, 15]
    place = (person.camera.intrinsics[0] @ head)[:2] / head[2]
    assert 80 < place[0] < 160
    assert 20 < place[1] < 120
    assert person.cut[2, 2, :3].min() > 230  # the corner beside the head is white
    assert person.cut[120:136, 120:136, :3].float().mean() < 230  # the person is not
