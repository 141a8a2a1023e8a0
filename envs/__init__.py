"""Worlds that simulate a robot: importing this package picks a renderer and registers the gymnasium environments."""

from envs.gl import choose_backend

choose_backend()  # here, because MuJoCo reads MUJOCO_GL when it is first imported
