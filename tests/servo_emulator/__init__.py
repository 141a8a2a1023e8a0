"""An emulated arm: servos that speak their vendors' protocols over a pseudo-terminal, moved by MuJoCo physics.

By hand: `python -m tests.servo_emulator --help`. In tests: `with Emulator(vendor="feetech", seed=3) as arm:`, from
tests.servo_emulator.process; requests.py has what can be asked of it. What the vendors leave open is read in the way
that asks more of a driver, and said where it is done.
"""
