"""The boot loader entry: kernel, initramfs and kernel arguments."""

from __future__ import annotations

from collections.abc import Iterator

from rehydrator.boot import bls, console, platforms
from rehydrator.boot.entries import FIRST_BOOT, read_text
from rehydrator.boot.platforms import Platforms
from rehydrator.checks.finding import Check, Finding, error, judged, ok
from rehydrator.checks.image import BOOT, Entry, Image
from rehydrator.errors import CorruptError
from rehydrator.release.naming import platform_id

# GRUB sets this variable where the stamp is there, as coreos-assembler's grub.cfg says; the first boot removes it.
FIRST_BOOT_VARIABLE = "$ignition_firstboot"
FIRST_BOOT_STAMP = "/ignition.firstboot"


def check_entries(image: Image) -> Iterator[Finding]:
    """Check every boot loader entry and what it names."""
    if image.boot is None:
        return
    if not image.entries:
        yield error(Check.BOOT_ENTRY, BOOT, "there is no boot loader entry below /loader/entries")
    for entry in image.entries:
        yield from _check_entry(image, entry)


def _check_entry(image: Image, entry: Entry) -> Iterator[Finding]:
    absent = [name for name in ("linux", "initrd", "options") if not getattr(entry, name)]
    problem = f"has no line, or several, for {', '.join(absent)}" if absent else ""
    yield judged(Check.BOOT_ENTRY, entry.path, problem, "names kernel, initramfs and kernel arguments")
    if entry.linux:
        yield _file(image, Check.KERNEL, entry.linux)
    if entry.initrd:
        yield _file(image, Check.INITRD, entry.initrd)
    if entry.options:
        yield _platform(image, entry)
        yield from _first_boot(image, entry)
        yield from _console(image, entry)


def _file(image: Image, check: Check, path: str) -> Finding:
    """Judge a file that has to be there."""
    try:
        head = image.head(path)
    except CorruptError as damage:
        return error(check, path, str(damage))
    if head is None:
        return error(check, path, "is missing")
    if not head:
        return error(check, path, "is empty")
    if check is Check.KERNEL and image.architecture is not None:
        return judged(check, path, image.architecture.kernel_problem(head), f"a kernel for {image.architecture.name}")
    return ok(check, path, "is there")


def _platform(image: Image, entry: Entry) -> Finding:
    found = bls.platforms_of(entry.options)
    if len(found) != 1:
        text = f"{bls.PLATFORM_KEY} is given {len(found)} times: {', '.join(found)}" if found else "is missing"
        return error(Check.PLATFORM_ID, entry.path, text if found else f"{bls.PLATFORM_KEY} {text}")
    wanted = platform_id(image.platform)
    problem = f"is {found[0]}, should be {wanted}" if wanted and found[0] != wanted else ""
    return judged(Check.PLATFORM_ID, entry.path, problem, found[0])


def _first_boot(image: Image, entry: Entry) -> Iterator[Finding]:
    """Ignition runs only where the kernel is told so; on s390x that is in the bootmap, not in the entry."""
    if image.boot is None or (image.architecture is not None and image.architecture.zipl):
        return
    words = entry.options.split()
    if FIRST_BOOT in words:
        yield ok(Check.FIRST_BOOT, entry.path, FIRST_BOOT)
    elif FIRST_BOOT_VARIABLE not in words:
        text = f"neither {FIRST_BOOT} nor {FIRST_BOOT_VARIABLE} is given: Ignition would not run"
        yield error(Check.FIRST_BOOT, entry.path, text)
    else:
        there = image.boot.lookup(FIRST_BOOT_STAMP) is not None
        problem = "" if there else f"is missing, so that {FIRST_BOOT_VARIABLE} is empty: Ignition would not run"
        yield judged(Check.FIRST_BOOT, FIRST_BOOT_STAMP, problem, f"is there and sets {FIRST_BOOT_VARIABLE}")


def _console(image: Image, entry: Entry) -> Iterator[Finding]:
    """Compare kernel arguments and console.cfg with what platforms.json has for the platform, where it is there."""
    text = read_text(image.boot, platforms.PATH) if image.boot else None
    found = bls.platforms_of(entry.options)
    if image.boot is None or text is None or len(found) != 1:
        return
    platform = found[0]
    known = Platforms.parse(text.encode())
    if known is None:
        yield error(Check.CONSOLE, platforms.PATH, "is not what it should be")
        return
    settings = known.settings(platform)
    words = f" {entry.options} "
    problem = ""
    if settings.kernel_arguments and f" {settings.arguments_text} " not in words:
        problem = f"lacks the kernel arguments of {platform}: {settings.arguments_text}"
    yield judged(Check.CONSOLE, entry.path, problem, settings.arguments_text or "no console arguments")
    config = read_text(image.boot, console.PATH)
    if config is None:
        return
    commands = console.commands_of(config)
    wanted = "\n".join(settings.grub_commands)
    if commands is None:
        problem = "has no marks of console settings"
    elif commands != wanted:
        problem = f"has the commands {_told(commands)}, should have those of {platform}: {_told(wanted)}"
    else:
        problem = ""
    yield judged(Check.CONSOLE, console.PATH, problem, _told(wanted))


def _told(commands: str) -> str:
    return ", ".join(commands.splitlines()) or "none"
