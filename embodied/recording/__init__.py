"""Recordings on disk: datasets in LeRobot format v3.0, written, read and collected; and videos of episodes."""
