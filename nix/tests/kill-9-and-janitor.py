def lab(command):
    return machine.succeed(f"/etc/cc-ci-lab/lab {command}").strip()


machine.wait_for_unit("multi-user.target")
machine.wait_for_unit("cc-ci-swarm.service")
machine.succeed("systemctl stop cc-ci-janitor.timer")
lab("setup")
domain = lab("domain hello 1 main")
nothing_left = f'test -z "$(/etc/cc-ci-lab/lab left {domain})"'


def start(name):
    lab(f"close {domain}")
    lab(f"step {name} 1")
    lab(f"reached {domain}")


with subtest("the janitor leaves a live run alone"):
    start("alive")
    before = lab(f"serving {domain}")
    machine.succeed("systemctl start cc-ci-janitor.service")
    t.assertIn("live concurrent run, leaving it", machine.succeed("journalctl --unit cc-ci-janitor --output cat"))
    t.assertEqual(lab(f"serving {domain}"), before)

with subtest("a killed worker leaks nothing: the keeper reaps, and the run is not green"):
    machine.succeed(f"kill -KILL $(/etc/cc-ci-lab/lab worker {domain})")
    t.assertNotEqual(lab("await alive"), "0", lab("log alive"))
    machine.succeed(nothing_left)

with subtest("a killed keeper leaks nothing: the worker becomes the reaper"):
    start("keeperless")
    machine.succeed(f"kill -KILL $(/etc/cc-ci-lab/lab keeper {domain})")
    machine.wait_until_succeeds(nothing_left, timeout=120)

with subtest("a killed reaper leaks nothing: the keeper starts another"):
    start("reaperless")
    lab(f"open {domain}")
    machine.wait_until_succeeds(
        'kill -KILL $(pgrep --full " reaper /var/lib/cc-ci-runs/reaperless" | head -n 1)', timeout=60
    )
    lab("await reaperless")
    machine.wait_until_succeeds(nothing_left, timeout=120)

with subtest("keeper and worker killed together leave the app, and no lock"):
    start("gone")
    worker, keeper = lab(f"worker {domain}"), lab(f"keeper {domain}")
    machine.succeed(f"kill -STOP {worker} && kill -KILL {worker} {keeper}")
    t.assertIn("service ", lab(f"left {domain}"))
    machine.succeed(f"flock --nonblock $(/etc/cc-ci-lab/lab lock {domain}) true")

with subtest("the janitor's next sweep takes it down, processes of the dead run first"):
    machine.succeed("systemctl start cc-ci-janitor.service")
    machine.succeed(nothing_left)

with subtest("the witness was not touched"):
    lab("witness")
