"""A real arm as a body: its servo bus, its calibration, its health; shared by every arm of embodied.robots."""
