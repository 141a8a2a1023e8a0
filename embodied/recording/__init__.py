"""Recordings on disk in LeRobot dataset format v3.0: written, read, collected."""
