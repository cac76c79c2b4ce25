# Each member of a run is killed alone, and no single death may leak; then keeper and worker die
# together, which is the one thing that needs the janitor. The janitor also looks on while a run
# is alive.
{
  name = "cc-ci-kill-9-and-janitor";
  testScript = builtins.readFile ./kill-9-and-janitor.py;
}
