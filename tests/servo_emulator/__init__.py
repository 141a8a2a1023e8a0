"""An emulated arm: servos that speak their vendors' protocols over a pseudo-terminal, moved by MuJoCo physics."""
