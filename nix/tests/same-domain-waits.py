import json


def lab(command):
    return machine.succeed(f"/etc/cc-ci-lab/lab {command}").strip()


machine.wait_for_unit("multi-user.target")
machine.wait_for_unit("cc-ci-swarm.service")
lab("setup")
domain = lab("domain hello 1 main")

with subtest("a second run of the app says that it waits, and for whom"):
    lab(f"close {domain}")
    lab("step first 1")
    lab(f"reached {domain}")
    before = lab(f"serving {domain}")
    lab("step second 1")
    machine.wait_until_succeeds(
        f"/etc/cc-ci-lab/lab log second | grep -F 'another run of {domain} in flight — waiting'",
        timeout=60,
    )
    t.assertIn("first", lab("log second"))

with subtest("status shows the holder"):
    status = machine.succeed("cc-ci-run status --json")
    json.loads(status)
    t.assertIn('"first"', status)
    t.assertIn(domain, status)

with subtest("while it waits the app is the first run's own"):
    t.assertEqual(lab(f"serving {domain}"), before)
    t.assertNotIn("acquired after", lab("log second"))

with subtest("when the first has taken its app down, the second deploys its own"):
    lab(f"open {domain}")
    t.assertEqual(lab("await first"), "0", lab("log first"))
    t.assertEqual(lab("await second"), "0", lab("log second"))
    t.assertIn(f"== app lock: {domain} acquired after", lab("log second"))
    for name in ("first", "second"):
        t.assertIn("deploy-count = 1 (expect 1)", lab(f"log {name}"))

with subtest("a conflict can be refused instead, with exit 75 at once"):
    lab(f"close {domain}")
    lab("step third 1")
    lab(f"reached {domain}")
    lab("step refused 1 --on-conflict fail")
    t.assertEqual(lab("await refused"), "75", lab("log refused"))
    lab(f"open {domain}")
    t.assertEqual(lab("await third"), "0", lab("log third"))

with subtest("nothing is left, and the witness was not touched"):
    t.assertEqual(lab(f"left {domain}"), "")
    lab("witness")
