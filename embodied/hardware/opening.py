"""Opens an arm: asks every servo who it is, compares its calibration, sets it up and holds it where it stands."""

from __future__ import annotations

import time

import numpy as np

from embodied.hardware.arm import ArmModel
from embodied.hardware.bus import Bus, BusSilentError, Found, Reading, ServoError
from embodied.hardware.calibration import Calibration, radians_of
from embodied.hardware.health import ServoBounds
from embodied.hardware.homing import require_inside
from embodied.hardware.vendor import Vendor

WATCHDOG_UNIT_S = 0.02
HELD_NEAR = 60  # counts from where it stands within which a servo's own goal is left as it is
PATIENCE_S = 1.0


def open_bus(arm: ArmModel, port: str, calibration: Calibration) -> tuple[Bus, tuple[ServoBounds, ...]]:
    """Open the bus of an arm, which holds where it stands afterwards; return it with where its servos let go.

    Raise PortError, ServoError, CalibrationError, or HardwareError for a joint that stands outside its range, naming
    all that is wrong and what to do; nothing has moved then.
    """
    bus = Bus(arm.vendor, port, arm.ids, baud=arm.baud)
    try:
        greet(bus, arm)
        calibration.check(bus, arm)
        set_up(bus, arm)
        # A servo that takes hold outside its limits drives to them, as fast as it can.
        require_inside(arm, radians_of(arm, read_patiently(bus).position), *calibration.range_rad(arm))
        hold(bus)
        return bus, tuple(ServoBounds.of(bus, joint.id) for joint in arm.joints)
    except BaseException:
        bus.close()
        raise


def greet(bus: Bus, arm: ArmModel) -> tuple[Found, ...]:
    """Ask every servo who it is; raise ServoError naming each that is missing, doubled or of another model."""
    found, wrong = list[Found](), list[str]()
    for joint in arm.joints:
        try:
            servo = bus.ping(joint.id)
        except ServoError as error:
            wrong.append(f"{joint.name}: {error}")
            continue
        if servo is None:
            setup = f"embodied setup {arm.module} --joint {joint.name}"
            wrong.append(f"{joint.name}: no servo with id {joint.id} answers: look at its cable, or {setup}")
        elif servo.model != joint.model:
            is_one = f"servo {joint.id} is a {bus.vendor.model(servo.model)}"
            wrong.append(f"{joint.name}: {is_one}; {arm.name} has a {bus.vendor.model(joint.model)} there")
        else:
            found.append(servo)
    if len(wrong) == len(arm.joints) and not found and all("answers: look" in line for line in wrong):
        raise ServoError(
            f"no servo answers on {bus.name} at {bus.baud} baud: is the arm's power on? Servos that are new, or have "
            f"another baud rate, are set up by embodied setup {arm.module}"
        )
    if wrong:
        raise ServoError(f"the servos on {bus.name} are not those of {arm.name}:\n  - " + "\n  - ".join(wrong))
    bus.know([servo.model for servo in found])
    return tuple(found)


def read_patiently(bus: Bus) -> Reading:
    """Return a reading, however busy the machine is; raise BusError where there is none within a second."""
    deadline_s = time.monotonic() + PATIENCE_S
    while True:
        try:
            return bus.read()
        except BusSilentError:
            if time.monotonic() > deadline_s:
                raise


def hold(bus: Bus) -> Reading:
    """Have every servo hold where it stands: its goal is there before its motor is on, so that nothing jumps.

    One that has let go by itself, for an overload, takes hold again when its motor is switched on once more.
    """
    reading = read_patiently(bus)
    for servo, alarms in zip(bus.ids, reading.alarms, strict=True):
        count = bus.get(servo, "present_position")  # a joint that nobody holds has fallen on since the reading
        if bus.get(servo, "torque_enable") != 1 or abs(bus.get(servo, "goal_position") - count) > HELD_NEAR:
            low, high = bus.get(servo, "min_position"), bus.get(servo, "max_position")
            bus.set(servo, "goal_position", min(max(bus.get(servo, "present_position"), low), high))
        try:
            bus.set(servo, "torque_enable", 1, again="overload" in alarms)
        except ServoError as error:
            if not alarms:
                raise
            names = " and ".join(sorted(alarms))
            raise ServoError(
                f"servo {servo} on {bus.name} keeps its motor off since its {names} alarm: mend what caused it, hold "
                f"the arm, and switch its power off and on"
            ) from error
    return reading


def arm_watchdog(bus: Bus, watchdog_s: float) -> None:
    """Have servos that can stop by themselves do so when they hear nothing for watchdog_s; 0 frees those that did."""
    if "bus_watchdog" in bus.vendor.registers:
        for servo in bus.ids:
            bus.set(servo, "bus_watchdog", 0)
            if watchdog_s:
                bus.set(servo, "bus_watchdog", round(watchdog_s / WATCHDOG_UNIT_S))


def radians_a_count(vendor: Vendor) -> float:
    """Return the angle of one count."""
    return 2 * np.pi / vendor.counts_a_turn


def set_up(bus: Bus, arm: ArmModel) -> None:
    """Have every servo do as the arm's driver takes it to do; what is so already is left alone."""
    vendor, limits = arm.vendor, arm.limits.velocity or (0.0,) * len(arm.joints)
    for joint, top_rad_s in zip(arm.joints, limits, strict=True):
        if "bus_watchdog" in vendor.registers:
            bus.set(joint.id, "bus_watchdog", 0)
        settle(bus, joint.id)
        bus.set(joint.id, "return_delay", 0)
        bus.set(joint.id, "torque_limit", round(joint.torque_limit * vendor.torque_full))
        bus.set(joint.id, "acceleration", 0)  # setpoints come with the arm's own limits of acceleration
        bus.set(joint.id, "goal_velocity", round(top_rad_s / radians_a_count(vendor) / vendor.velocity_counts_s))


def unsettled(bus: Bus, id: int) -> dict[str, int]:
    """Return what a servo's EEPROM does not hold and must, for counts, goals and alarms to mean what they do here."""
    vendor = bus.vendor
    wanted = {**vendor.settled, **{name: bus.get(id, name) & ~bits for name, bits in vendor.cleared.items()}}
    return {register: value for register, value in wanted.items() if bus.get(id, register) != value}


def settle(bus: Bus, id: int) -> None:
    """Have a servo's EEPROM hold what is unsettled; raise ServoError if its motor is on: its goal would be another."""
    for register, value in unsettled(bus, id).items():
        if bus.get(id, "torque_enable"):
            what = f"servo {id} on {bus.name} has another {register} than {value}"
            raise ServoError(f"{what}, and takes no settings while its motor is on: relax it first")
        bus.set(id, register, value)
