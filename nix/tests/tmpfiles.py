machine.wait_for_unit("multi-user.target")

with subtest("the directories are there, with owner and mode"):
    for path, mode in (
        ("/run/lock", "755 root root"),
        ("/var/lib/cc-ci-runs", "750 root root"),
        ("/var/lib/cc-ci", "750 root root"),
    ):
        t.assertEqual(machine.succeed(f"stat --format '%a %U %G' {path}").strip(), mode)

with subtest("a lock is held"):
    machine.succeed("systemd-run --quiet --unit holder cc-ci-run guard --name held --deadline 10m -- sleep infinity")
    machine.wait_until_succeeds("ls /run/lock/cc-ci-*held*", timeout=30)
    lock = machine.succeed("ls /run/lock/cc-ci-*held*").strip()
    machine.wait_until_fails(f"flock --nonblock {lock} true", timeout=30)
    inode = machine.succeed(f"stat --format %i {lock}")

with subtest("a rule that cleans the directory by age takes a plain file and leaves the lock"):
    # Free, and yet not to be taken: between a waiter's open and its flock nothing shows that it is in use.
    # Also what shows that our rule is at work, for a recent systemd spares files with a flock by itself.
    free = "/run/lock/cc-ci-app-free-000000.ci.localhost.lock"
    machine.succeed(
        "systemctl stop cc-ci-janitor.timer",
        "mkdir -p /run/tmpfiles.d",
        "echo 'd /run/lock 0755 root root 1s' >/run/tmpfiles.d/00-somebody-else.conf",
        f"touch {free}",
        "touch /run/lock/somebody-elses",
    )
    machine.wait_until_succeeds(
        "systemd-tmpfiles --clean --prefix /run/lock && ! test -e /run/lock/somebody-elses", timeout=30
    )
    machine.succeed(f"test -e {free}")
    t.assertEqual(machine.succeed(f"stat --format %i {lock}"), inode)

with subtest("nor does making the directories anew touch it"):
    machine.succeed("systemd-tmpfiles --create --remove --prefix /run/lock")
    t.assertEqual(machine.succeed(f"stat --format %i {lock}"), inode)
    machine.fail(f"flock --nonblock {lock} true")

with subtest("released, it is gone: by its holder, not by a rule"):
    machine.succeed("systemctl stop holder")
    machine.wait_until_fails(f"test -e {lock}", timeout=30)
