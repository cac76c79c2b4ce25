# Two pull requests of one recipe are deployed side by side. Both are held at a gate with their
# apps up, so that "at the same time" is seen and not inferred from clocks.
{
  name = "cc-ci-two-parallel-runs";
  testScript = builtins.readFile ./two-parallel-runs.py;
}
