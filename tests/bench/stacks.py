"""Stacks on the Swarm at DOCKER_HOST: each a service without replicas, a network, a volume, a secret and a config.

  stacks.py FROM TO          makes those with the numbers FROM to TO - 1, straight through the API
  stacks.py hold DIR NUMBER  holds the locks of so many of their apps in DIR, until its stdin ends; says when it does
"""

import base64
import fcntl
import http.client
import json
import os
import socket
import sys


def domain(number):
    return f"hell-{number:06x}.ci.x"


def hold(folder, number):
    held = [open(f"{folder}/cc-ci-app-{domain(n)}.lock", "w", encoding="utf-8") for n in range(number)]
    for file in held:
        fcntl.flock(file, fcntl.LOCK_EX)
    print("held", flush=True)
    sys.stdin.read()


class Daemon(http.client.HTTPConnection):
    """The daemon behind a socket in the file system."""

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(os.environ["DOCKER_HOST"].removeprefix("unix://"))

    def make(self, kind, what):
        self.request("POST", f"/{kind}/create", json.dumps(what), {"Content-Type": "application/json"})
        answer = self.getresponse()
        text = answer.read()
        if answer.status not in (200, 201):
            sys.exit(f"{kind}: {answer.status} {text!r}")


def make(first, end):
    daemon = Daemon("docker")
    data = base64.b64encode(b"x").decode()
    for number in range(first, end):
        stack = domain(number).replace(".", "_")
        labels = {"com.docker.stack.namespace": stack}
        container = {"Image": "none", "Labels": labels}
        task = {"ContainerSpec": container}
        mode = {"Replicated": {"Replicas": 0}}
        daemon.make("services", {"Name": f"{stack}_app", "Labels": labels, "TaskTemplate": task, "Mode": mode})
        daemon.make("networks", {"Name": f"{stack}_default", "Labels": labels, "Driver": "overlay"})
        daemon.make("volumes", {"Name": f"{stack}_data", "Labels": labels})
        daemon.make("secrets", {"Name": f"{stack}_pw_v1", "Labels": labels, "Data": data})
        daemon.make("configs", {"Name": f"{stack}_conf_v1", "Labels": labels, "Data": data})


if sys.argv[1] == "hold":
    hold(sys.argv[2], int(sys.argv[3]))
else:
    make(int(sys.argv[1]), int(sys.argv[2]))
