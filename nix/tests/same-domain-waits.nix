# A second run of the same app waits, says for whom, and deploys only when the first is gone. The
# first stands at a gate meanwhile: had the second not waited, it would have deployed under its
# hands.
{
  name = "cc-ci-same-domain-waits";
  testScript = builtins.readFile ./same-domain-waits.py;
}
