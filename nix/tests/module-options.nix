# The module's options arrive where they have to: capacity in the runner, interval in the timer,
# directories with owner and mode, and settings that the program refuses are refused before they
# are used.
{
  name = "cc-ci-module-options";
  testScript = builtins.readFile ./module-options.py;
}
