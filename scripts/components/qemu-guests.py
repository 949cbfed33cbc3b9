"""Writes two bootable disks, polite.raw and stubborn.raw, into a folder.

A test of "stop the machine" needs a guest that obeys the power button and one that does not, not an operating system.
Each disk is a boot sector of a few 16-bit instructions, padded to 1 MiB.

polite    enables the ACPI power button, sleeps until the next timer tick (18 a second), and looks whether the button
          was pressed; if so it switches the machine off.
stubborn  sleeps for ever.

usage: qemu-guests.py FOLDER
"""

import os
import struct
import sys

# Where SeaBIOS puts the ACPI power management registers, on QEMU's machines pc and q35 alike.
PM_BASE = 0x600
PM1_STATUS = PM_BASE
PM1_ENABLE = PM_BASE + 2
PM1_CONTROL = PM_BASE + 4
POWER_BUTTON = 1 << 8  # in PM1_STATUS and PM1_ENABLE
SLEEP_ENABLE = 1 << 13  # in PM1_CONTROL; sleep type 0, on these machines, is "off"

STI, HLT, OUT_DX_AX, IN_AX_DX = b"\xfb", b"\xf4", b"\xef", b"\xed"


def mov_dx(value):
    return b"\xba" + struct.pack("<H", value)


def mov_ax(value):
    return b"\xb8" + struct.pack("<H", value)


def test_ax(value):
    return b"\xa9" + struct.pack("<H", value)


def jump_back(opcode, body):
    """A two-byte jump that, placed after `body`, leads to the start of `body`."""
    return opcode + struct.pack("b", -(len(body) + 2))


def jump_if_zero_back(body):
    return jump_back(b"\x74", body)


def jump_always_back(body):
    return jump_back(b"\xeb", body)


def polite():
    enable_button = mov_dx(PM1_ENABLE) + mov_ax(POWER_BUTTON) + OUT_DX_AX
    look = STI + HLT + mov_dx(PM1_STATUS) + IN_AX_DX + test_ax(POWER_BUTTON)
    wait = look + jump_if_zero_back(look)
    power_off = mov_dx(PM1_CONTROL) + mov_ax(SLEEP_ENABLE) + OUT_DX_AX
    return enable_button + wait + power_off + stubborn()


def stubborn():
    sleep = STI + HLT
    return sleep + jump_always_back(sleep)


def disk(code):
    sector = code.ljust(510, b"\0") + b"\x55\xaa"
    return sector.ljust(1 << 20, b"\0")


def main():
    if len(sys.argv) != 2 or sys.argv[1] in ("-h", "--help"):
        sys.exit(__doc__)
    for name, code in (("polite", polite()), ("stubborn", stubborn())):
        path = os.path.join(sys.argv[1], name + ".raw")
        with open(path + ".new", "wb") as file:
            file.write(disk(code))
        os.replace(path + ".new", path)


main()
