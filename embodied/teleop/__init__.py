"""An operator at the robot: by keyboard, gamepad or leader arm, recording demonstrations or helping a policy."""
