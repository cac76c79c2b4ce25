def lab(command):
    return machine.succeed(f"/etc/cc-ci-lab/lab {command}").strip()


machine.wait_for_unit("multi-user.target")

with subtest("maxTests is the runner's capacity and the program's own limit"):
    machine.wait_for_unit("drone-runner-exec.service")
    pid = machine.get_unit_property("drone-runner-exec.service", "MainPID")
    t.assertIn("DRONE_RUNNER_CAPACITY=3", machine.succeed(f"tr '\\0' '\\n' </proc/{pid}/environ").split())
    machine.succeed("grep -x 'max_tests = 3' /etc/cc-ci/settings.toml")

with subtest("the runner starts after the directories and the Swarm"):
    after = machine.get_unit_property("drone-runner-exec.service", "After").split()
    for unit in ("docker.service", "cc-ci-swarm.service", "systemd-tmpfiles-setup.service"):
        t.assertIn(unit, after)

with subtest("the timer has the interval, and a sweep is over before the next one"):
    t.assertIn("OnUnitActiveUSec=2min", machine.succeed("systemctl show --property TimersMonotonic cc-ci-janitor.timer"))
    t.assertEqual(machine.get_unit_property("cc-ci-janitor.service", "TimeoutStartUSec"), "1min 48s")

with subtest("the Swarm is prepared, with room on its proxy network"):
    machine.wait_for_unit("cc-ci-swarm.service")
    t.assertEqual(
        machine.succeed("docker network inspect --format '{{(index .IPAM.Config 0).Subnet}}' proxy").strip(),
        "10.199.0.0/16",
    )
    # Again, over what is there already: nothing to do and nothing to complain about.
    machine.succeed("systemctl restart cc-ci-swarm.service")

with subtest("the settings that the host was built with are accepted, and a misspelt key is not"):
    machine.succeed("cc-ci-run config check /etc/cc-ci/settings.toml")
    machine.succeed("sed 's/^deadline/dead_line/' /etc/cc-ci/settings.toml >/tmp/misspelt.toml")
    code, said = machine.execute("cc-ci-run config check /tmp/misspelt.toml 2>&1")
    t.assertEqual(code, 2)
    t.assertIn("dead_line", said)

with subtest("a sweep of a clean host succeeds, hardened as it is, and leaves what is not cc-ci's"):
    machine.succeed("systemctl stop cc-ci-janitor.timer")
    lab("setup")
    machine.succeed("systemctl start cc-ci-janitor.service")
    t.assertIn("nothing to do", machine.succeed("journalctl --unit cc-ci-janitor --output cat"))
    lab("witness")

with subtest("a directory that somebody removed is the sweep's to say, and no sweep that does not start"):
    machine.succeed("rmdir /var/lib/cc-ci-runs", "mv /var/lib/cc-ci /var/lib/away")
    machine.succeed("systemctl start cc-ci-janitor.service")
    t.assertIn("/var/lib/cc-ci/janitor.json", machine.succeed("journalctl --unit cc-ci-janitor --output cat"))
    machine.succeed("mv /var/lib/away /var/lib/cc-ci", "systemd-tmpfiles --create --prefix /var/lib/cc-ci-runs")
    machine.succeed("systemctl start cc-ci-janitor.service")
