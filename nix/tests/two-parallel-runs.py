def lab(command):
    return machine.succeed(f"/etc/cc-ci-lab/lab {command}").strip()


machine.wait_for_unit("multi-user.target")
machine.wait_for_unit("cc-ci-swarm.service")
lab("setup")
one, two = lab("domain hello 1 main"), lab("domain hello 2 main")

with subtest("runs of one recipe for two pull requests have their apps up at the same time"):
    lab(f"close {one}")
    lab(f"close {two}")
    lab("step pr-1 1")
    lab("step pr-2 2")
    lab(f"reached {one}")
    lab(f"reached {two}")
    for domain in (one, two):
        t.assertIn("service ", lab(f"left {domain}"))

with subtest("a run that ends takes down its own app and not the other's"):
    lab(f"open {one}")
    t.assertEqual(lab("await pr-1"), "0", lab("log pr-1"))
    t.assertEqual(lab(f"left {one}"), "")
    t.assertIn("service ", lab(f"left {two}"))

with subtest("the other ends green as well, and nothing is left"):
    lab(f"open {two}")
    t.assertEqual(lab("await pr-2"), "0", lab("log pr-2"))
    t.assertEqual(lab(f"left {two}"), "")

with subtest("neither said that it waited"):
    for name in ("pr-1", "pr-2"):
        t.assertNotIn("in flight — waiting", lab(f"log {name}"))

with subtest("the witness was not touched"):
    lab("witness")
