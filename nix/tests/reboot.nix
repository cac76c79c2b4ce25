# The host loses power under a run. Swarm brings the app back with the host, and the janitor takes
# it as the orphan it is. crash(), not an orderly stop: that would give the run its SIGTERM.
{
  name = "cc-ci-reboot";
  testScript = builtins.readFile ./reboot.py;
}
