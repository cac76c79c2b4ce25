# Another package's rule cleans the lock directory by age while a lock is held. A plain file of
# the same age beside it goes, which shows that the rule was in force.
{
  name = "cc-ci-tmpfiles";
  testScript = builtins.readFile ./tmpfiles.py;
}
