# A run that never ends is ended by its own clock, taken down, and told apart from a cancel by its
# exit code.
{
  name = "cc-ci-deadline";
  testScript = builtins.readFile ./deadline.py;
}
