def lab(command):
    return machine.succeed(f"/etc/cc-ci-lab/lab {command}").strip()


machine.wait_for_unit("multi-user.target")
machine.wait_for_unit("cc-ci-swarm.service")
machine.succeed("systemctl stop cc-ci-janitor.timer")
lab("setup")
domain = lab("domain hello 1 main")
nothing_left = f'test -z "$(/etc/cc-ci-lab/lab left {domain})"'

with subtest("a run has its app up"):
    lab(f"close {domain}")
    lab("step cancelled 1")
    lab(f"reached {domain}")
    t.assertIn("service ", lab(f"left {domain}"))

with subtest("the step's shell is killed, workspace and home are gone, and the run takes its app down"):
    lab("cancel cancelled")
    machine.wait_until_succeeds(nothing_left, timeout=120)

with subtest("no janitor had to come"):
    t.assertEqual(machine.get_unit_property("cc-ci-janitor.service", "ExecMainStartTimestampMonotonic"), "0")

with subtest("the result says that the run was cancelled, and how"):
    machine.wait_for_file("/var/lib/cc-ci-runs/cancelled/results.json", timeout=30)
    results = machine.succeed("cat /var/lib/cc-ci-runs/cancelled/results.json")
    t.assertEqual(machine.succeed("jq .flags.clean_teardown /var/lib/cc-ci-runs/cancelled/results.json").strip(), "true")
    t.assertRegex(results, "(?i)cancel")
    t.assertRegex(results, "(?i)parent")

with subtest("a run that waits is cancelled as well, and the run that it waited for goes on"):
    lab(f"close {domain}")
    lab("step holder 1")
    lab(f"reached {domain}")
    lab("step waiter 1")
    machine.wait_until_succeeds("/etc/cc-ci-lab/lab log waiter | grep -F 'in flight — waiting'", timeout=60)
    lab("cancel waiter")
    machine.wait_until_succeeds('test -z "$(/etc/cc-ci-lab/lab processes waiter)"', timeout=60)
    lab(f"open {domain}")
    t.assertEqual(lab("await holder"), "0", lab("log holder"))

with subtest("nothing is left, and the witness was not touched"):
    machine.wait_until_succeeds(nothing_left, timeout=60)
    lab("witness")
