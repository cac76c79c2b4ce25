def lab(command):
    return machine.succeed(f"/etc/cc-ci-lab/lab {command}").strip()


machine.wait_for_unit("multi-user.target")
machine.wait_for_unit("cc-ci-swarm.service")
lab("setup")
domain = lab("domain hello 1 main")

with subtest("the host loses power under a run"):
    lab(f"close {domain}")
    lab("step orphan 1")
    lab(f"reached {domain}")
    machine.succeed("sync")
    machine.crash()
    machine.start()

with subtest("the janitor is due, without anybody's doing"):
    machine.wait_for_unit("cc-ci-janitor.timer")

with subtest("the app comes back with the host, without a run"):
    # On a slow host the sweep would have come before anybody looked.
    machine.succeed("systemctl stop cc-ci-janitor.timer")
    machine.wait_for_unit("cc-ci-swarm.service")
    lab("witness_again")
    t.assertIn("service ", lab(f"left {domain}"))
    machine.fail(f"test -e $(/etc/cc-ci-lab/lab lock {domain})")

with subtest("a sweep reaps it at once, whatever its age"):
    machine.succeed("systemctl start cc-ci-janitor.service")
    t.assertEqual(lab(f"left {domain}"), "")

with subtest("the app can be tested again"):
    machine.succeed("mkdir -p /run/cc-ci-lab/gates")
    lab("step after 1")
    t.assertEqual(lab("await after"), "0", lab("log after"))
    t.assertEqual(lab(f"left {domain}"), "")

with subtest("the witness kept its data"):
    lab("witness_again")
