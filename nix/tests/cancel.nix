# Drone cancels a build with a SIGKILL to the step's shell and to nothing else, and removes
# workspace and home at once. The runner here is a unit with KillMode=process, or systemd would
# end the run by itself and the test would pass without the harness.
{
  name = "cc-ci-cancel";
  testScript = builtins.readFile ./cancel.py;
}
