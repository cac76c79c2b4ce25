def lab(command):
    return machine.succeed(f"/etc/cc-ci-lab/lab {command}").strip()


def result(run, query):
    return machine.succeed(f"jq --raw-output '{query}' /var/lib/cc-ci-runs/{run}/results.json").strip()


machine.wait_for_unit("multi-user.target")
machine.wait_for_unit("cc-ci-swarm.service")
machine.succeed("systemctl stop cc-ci-janitor.timer")
lab("setup")
domain = lab("domain hello 1 main")

with subtest("a run that never ends has its app up, and another one waits for it"):
    lab(f"close {domain}")
    lab("step endless 1 --deadline 1m")
    machine.wait_until_succeeds(f"/etc/cc-ci-lab/lab keeper {domain} | grep .", timeout=60)
    # Less than the other's whole life, nearly all of which it waits for, however long the app takes to come
    # up: a clock that ran while waiting would end this one too.
    lab("step waiter 1 --deadline 45s")
    machine.wait_until_succeeds("/etc/cc-ci-lab/lab log waiter | grep -F 'in flight — waiting'", timeout=60)
    lab(f"reached {domain}")

with subtest("it exits 142 and says why"):
    t.assertEqual(lab("await endless"), "142", lab("log endless"))
    t.assertIn("== run exceeded 1-minute hard deadline — tearing down ==", lab("log endless"))
    t.assertEqual(result("endless", ".verdict"), "deadline")

with subtest("its app was taken down, and the next run found nothing of it"):
    t.assertEqual(result("endless", ".flags.clean_teardown"), "true")
    lab(f"open {domain}")
    t.assertEqual(lab("await waiter"), "0", lab("log waiter"))
    t.assertEqual(result("waiter", ".preclean"), "null")

with subtest("the clock did not run while the lock was waited for"):
    waited = int(result("waiter", '.phases[] | select(.name == "wait") | .milliseconds'))
    t.assertGreater(waited, 45_000)

with subtest("nothing is left, and the witness was not touched"):
    t.assertEqual(lab(f"left {domain}"), "")
    lab("witness")
