# The host that all VM tests run on and that ../golden is evaluated from: a CI host as an operator
# would configure it, small and impatient.
{
  services.cc-ci = {
    enable = true;
    maxTests = 3;
    settings = {
      # Below localhost, every name resolves without a DNS server.
      base_domain = "ci.localhost";
      # The witness stands there, as a reverse proxy does on a real host.
      ingress = "127.0.0.1:80";
      deadline = "5m";
      wait_timeout = "5m";
      teardown_budget = "2m";
      grace = "5s";
      min_time_left = "1s";
    };
    janitor.interval = "2min";
    swarm.enable = true;
    drone.enable = true;
  };

  virtualisation.docker.enable = true;

  # Only its environment and its place in the order are looked at; Drone itself is not under test.
  systemd.services.drone-runner-exec = {
    description = "Stand-in for Drone's exec runner";
    wantedBy = [ "multi-user.target" ];
    serviceConfig.ExecStart = "/bin/sh -c 'exec sleep infinity'";
  };
}
