{ self }:
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib)
    literalExpression
    mkDefault
    mkEnableOption
    mkIf
    mkMerge
    mkOption
    types
    ;

  cfg = config.services.cc-ci;
  toml = pkgs.formats.toml { };

  package =
    if cfg.extraPackages == [ ] then
      cfg.package
    else
      cfg.package.override { inherit (cfg) extraPackages; };

  settingsFile = toml.generate "cc-ci-settings.toml" cfg.settings;

  # Judged by the program that will read it, so that a typo fails the build of the system and not,
  # hours later, somebody's pull request.
  checkedSettings = pkgs.runCommand "cc-ci-settings-checked.toml" { } ''
    ${lib.optionalString (pkgs.stdenv.buildPlatform.canExecute pkgs.stdenv.hostPlatform) ''
      ${lib.getExe' cfg.package "cc-ci-run"} config check ${settingsFile}
    ''}
    cp ${settingsFile} "$out"
  '';

  # "5min" -> 300. The janitor's own time limits follow from its period.
  intervalSeconds =
    let
      parts = builtins.match "([1-9][0-9]*)(s|min|h)" cfg.janitor.interval;
      factor = {
        s = 1;
        min = 60;
        h = 3600;
      };
    in
    lib.toInt (builtins.elemAt parts 0) * factor.${builtins.elemAt parts 1};
  ofPeriod = percent: "${toString (intervalSeconds * percent / 100)}s";

  dockerUnits = [
    "docker.service"
  ]
  ++ lib.optional cfg.swarm.enable "cc-ci-swarm.service";

  directory = {
    user = "root";
    group = "root";
  };
in
{
  options.services.cc-ci = {
    enable = mkEnableOption "cc-ci, exclusive test deploys of Co-op Cloud recipes";

    package = mkOption {
      type = types.package;
      default = self.packages.${pkgs.stdenv.hostPlatform.system}.cc-ci;
      defaultText = literalExpression "cc-ci.packages.\${system}.cc-ci";
      description = ''
        The package to use. The default is built by cc-ci's own flake, with the compiler it is
        tested with, whatever this host's nixpkgs is.
      '';
    };

    extraPackages = mkOption {
      type = types.listOf types.package;
      default = [ ];
      example = literalExpression "[ pkgs.abra ]";
      description = ''
        More tools for runs, CI steps and the janitor, which share one list: {command}`abra`, if
        recipes are to be tested as their operators run them, and whatever the recipes' hooks call.
      '';
    };

    settings = mkOption {
      type = types.submodule {
        freeformType = toml.type;
        options.abra_dir = mkOption {
          type = types.path;
          default = "/root/.abra";
          description = ''
            The canonical `ABRA_DIR`, whose servers and catalogue every run links to.
            Env files of abandoned test apps are found, and removed, below it.
          '';
        };
      };
      default = { };
      example = {
        base_domain = "ci.example.org";
        deadline = "60m";
        wait_timeout = "30m";
        on_conflict = "wait";
        retention = {
          age = "30d";
          count = 200;
        };
      };
      description = ''
        Contents of {file}`/etc/cc-ci/settings.toml`. Any key that
        {manpage}`cc-ci-run(1)` knows may be set; `cc-ci-run config check` reads the file while the
        system is built and refuses what it does not know.
      '';
    };

    maxTests = mkOption {
      type = types.ints.positive;
      default = 2;
      description = ''
        How many runs this host carries at once. The one knob for it: it becomes `max_tests`, which
        holds for runs started by hand too, and the capacity of the Drone runner.
      '';
    };

    lockDir = mkOption {
      type = types.path;
      default = "/run/lock";
      description = ''
        Where the locks are, on a local file system: the kernel's lock is the only record of who owns
        an app, and a network file system may keep it for a holder that is gone.
      '';
    };

    runsDir = mkOption {
      type = types.path;
      default = "/var/lib/cc-ci-runs";
      description = "One directory per run: its log, results and private recipe trees.";
    };

    stateDir = mkOption {
      type = types.path;
      default = "/var/lib/cc-ci";
      description = "Apps of the `local` engine, and what the janitor remembers from sweep to sweep.";
    };

    janitor = {
      enable = mkEnableOption "the timer that reaps what dead runs left behind" // {
        default = true;
      };

      interval = mkOption {
        type = types.strMatching "[1-9][0-9]*(s|min|h)";
        default = "5min";
        description = ''
          Time between the starts of two sweeps, as a number of `s`, `min` or `h`.
          A sweep that takes longer is stopped and goes on with the next.
        '';
      };
    };

    swarm = {
      enable = mkEnableOption "the preparation of a one-node Swarm and its proxy network at boot";

      network = mkOption {
        type = types.strMatching "[a-zA-Z0-9][a-zA-Z0-9_.-]*";
        default = "proxy";
        description = "Name of the overlay network that recipes expect to be routed on.";
      };

      subnet = mkOption {
        type = types.strMatching "[0-9]{1,3}(\\.[0-9]{1,3}){3}/[0-9]{1,2}";
        default = "10.199.0.0/16";
        description = ''
          Subnet of that network, a `/16` or wider. Docker leaks an address of it for nearly every
          task that ends, so the default `/24` is used up within days.
        '';
      };
    };

    bridge.enable = mkEnableOption ''
      the bridge, which starts a build on Drone for every `!testme` of a member. It needs
      {option}`services.cc-ci.settings.forge` and {option}`services.cc-ci.settings.bridge`, whose
      secret files systemd hands to it: they stay root's, mode 0600'';

    drone = {
      enable = mkEnableOption "the settings that the host's Drone runner needs to carry runs";

      unit = mkOption {
        type = types.str;
        default = "drone-runner-exec";
        description = "Name, without `.service`, of the systemd service that is the runner.";
      };
    };
  };

  config = mkIf cfg.enable (mkMerge [
    {
      services.cc-ci.settings = {
        max_tests = cfg.maxTests;
        lock_dir = cfg.lockDir;
        runs_dir = cfg.runsDir;
        state_dir = cfg.stateDir;
      };

      environment = {
        etc."cc-ci/settings.toml".source = checkedSettings;
        systemPackages = [ package ];
      };

      systemd.tmpfiles.settings.cc-ci = {
        # systemd no longer makes /run/lock. No age, here or below: a lock file's age says nothing
        # about its run, and a held one that is unlinked gives the app a second owner.
        ${cfg.lockDir}.d = directory // {
          mode = "0755";
        };
        # ... whichever other rule may clean the directory (systemd/systemd#30760).
        "${cfg.lockDir}/cc-ci-*".x = { };
        # Env files, secrets and volumes of test apps are below these two.
        ${cfg.runsDir}.d = directory // {
          mode = "0750";
        };
        ${cfg.stateDir}.d = directory // {
          mode = "0750";
        };
      };
    }

    (mkIf cfg.swarm.enable {
      assertions = [
        {
          assertion = config.virtualisation.docker.enable;
          message = ''
            services.cc-ci.swarm.enable prepares a Swarm of this host's Docker, which is not enabled;
            set virtualisation.docker.enable = true.
          '';
        }
        {
          assertion = lib.toInt (lib.last (lib.splitString "/" cfg.swarm.subnet)) <= 16;
          message = ''
            services.cc-ci.swarm.subnet is ${cfg.swarm.subnet}, which Docker's address leak exhausts
            within days; give it a /16 or wider, such as 10.199.0.0/16.
          '';
        }
      ];

      # dockerd refuses to be a Swarm node with it.
      virtualisation.docker.liveRestore = mkDefault false;

      systemd.services.cc-ci-swarm = {
        description = "One-node Swarm and proxy network for recipe tests";
        documentation = [ "man:cc-ci-run(1)" ];
        requires = [ "docker.service" ];
        after = [ "docker.service" ];
        wantedBy = [ "multi-user.target" ];
        path = [ config.virtualisation.docker.package ];
        serviceConfig = {
          Type = "oneshot";
          RemainAfterExit = true;
          ExecStart = "${package}/libexec/cc-ci/prepare-swarm ${cfg.swarm.network} ${cfg.swarm.subnet}";

          # --- It asks Docker over its socket, as root, whose socket that is, and does nothing else. Whoever has the
          # socket has the host all the same: this is against mistakes.
          CapabilityBoundingSet = "";
          NoNewPrivileges = true;
          RestrictSUIDSGID = true;
          LockPersonality = true;
          MemoryDenyWriteExecute = true;
          RestrictNamespaces = true;
          RestrictRealtime = true;
          RestrictAddressFamilies = [ "AF_UNIX" ];
          PrivateNetwork = true;
          SystemCallArchitectures = "native";
          SystemCallFilter = [
            "@system-service"
            "~@privileged"
          ];
          SystemCallErrorNumber = "EPERM";
          UMask = "0077";
          ProtectSystem = "strict";
          # The client looks for its settings there: an empty home has none, a forbidden one is a warning.
          ProtectHome = "tmpfs";
          ProtectProc = "invisible";
          ProcSubset = "pid";
          PrivateTmp = true;
          PrivateDevices = true;
          ProtectClock = true;
          ProtectControlGroups = true;
          ProtectHostname = true;
          ProtectKernelLogs = true;
          ProtectKernelModules = true;
          ProtectKernelTunables = true;
        };
      };
    })

    (mkIf cfg.janitor.enable {
      assertions = [
        {
          assertion = intervalSeconds >= 60;
          message = ''
            services.cc-ci.janitor.interval is ${cfg.janitor.interval}, which leaves a sweep no time to
            take an app down; give it a minute or more, such as "5min".
          '';
        }
      ];

      systemd.timers.cc-ci-janitor = {
        description = "Reap what dead recipe tests left behind";
        wantedBy = [ "timers.target" ];
        timerConfig = {
          # Late enough for Docker to have brought back what the reboot interrupted.
          OnBootSec = "5min";
          OnUnitActiveSec = cfg.janitor.interval;
          # The default of a minute would stretch the promise "gone soon after".
          AccuracySec = "10s";
        };
      };

      systemd.services.cc-ci-janitor = {
        description = "Reap what dead recipe tests left behind";
        documentation = [ "man:cc-ci-run(1)" ];
        # Order only: without Docker a sweep still reaps local apps, and says what it could not see.
        after = dockerUnits ++ [ "systemd-tmpfiles-setup.service" ];

        serviceConfig = {
          Type = "oneshot";
          # Begins nothing new, is ended, has stopped: all before the next one is due. Without the first
          # a sweep would be ended in the middle of an app.
          ExecStart = "${lib.getExe' package "cc-ci-janitor"} sweep --budget ${ofPeriod 80}";
          TimeoutStartSec = ofPeriod 90;
          TimeoutStopSec = ofPeriod 5;

          # When memory runs out a test dies, not what cleans up after it.
          OOMScoreAdjust = -500;
          # Runs come first: a sweep is in no hurry for their processors.
          Nice = 10;

          # --- It is root among other people's processes and files, so as little of root as will do.
          CapabilityBoundingSet = [
            "CAP_KILL" # end processes of dead runs, whoever they run as
            "CAP_SYS_PTRACE" # read CCCI_RUN_ID in another user's /proc/<pid>/environ
            "CAP_DAC_OVERRIDE" # open that file; empty directories that a test made as another user
            "CAP_FOWNER" # ... sticky ones too
          ];
          NoNewPrivileges = true;
          RestrictSUIDSGID = true;
          LockPersonality = true;
          MemoryDenyWriteExecute = true;
          RestrictNamespaces = true;
          RestrictRealtime = true;
          SystemCallArchitectures = "native";
          SystemCallFilter = [ "@system-service" ];
          # A call too many is an error that the sweep reports, not a sweep that vanishes.
          SystemCallErrorNumber = "EPERM";
          UMask = "0077";

          # Docker is asked over its socket. A forge is told of a run whose guardians all died, and nobody else is
          # asked anything.
          PrivateNetwork = !(cfg.settings ? forge);
          RestrictAddressFamilies = [
            "AF_UNIX"
          ]
          ++ lib.optionals (cfg.settings ? forge) [
            "AF_INET"
            "AF_INET6"
          ];

          # Every process, and /proc/locks, have to be seen: unseen would mean "dead", and what is
          # dead is reaped.
          PrivateUsers = false;
          ProcSubset = "all";
          ProtectProc = "default";

          # Read-only, and without home directories, but for what cc-ci itself makes and, where abra keeps
          # them, the env files of test apps. Docker's socket can be connected to all the same.
          ProtectSystem = "strict";
          ProtectHome = "tmpfs";
          # Bound, and not ReadWritePaths: they may be below a home. One that is missing is for the sweep to
          # say; it would else be a sweep that systemd does not even start.
          BindPaths = map (path: "-${path}") [
            cfg.lockDir
            cfg.runsDir
            cfg.stateDir
            cfg.settings.abra_dir
          ];
          PrivateTmp = true;
          PrivateDevices = true;
          ProtectClock = true;
          # A dead run's control group is ended as a whole, and removed.
          ProtectControlGroups = false;
          ProtectHostname = true;
          ProtectKernelLogs = true;
          ProtectKernelModules = true;
          ProtectKernelTunables = true;
        };
      };
    })

    (mkIf cfg.bridge.enable {
      assertions = [
        {
          assertion = cfg.settings ? forge && cfg.settings ? bridge;
          message = ''
            services.cc-ci.bridge.enable starts a bridge that knows no forge; set
            services.cc-ci.settings.forge and services.cc-ci.settings.bridge.
          '';
        }
      ];

      users.users.cc-ci-bridge = {
        description = "Builds for !testme";
        isSystemUser = true;
        group = "cc-ci-bridge";
      };
      users.groups.cc-ci-bridge = { };

      systemd.services.cc-ci-bridge = {
        description = "Builds for !testme";
        documentation = [ "man:cc-ci-bridge(1)" ];
        after = [ "network-online.target" ];
        wants = [ "network-online.target" ];
        wantedBy = [ "multi-user.target" ];
        restartTriggers = [ checkedSettings ];

        serviceConfig = {
          ExecStart = lib.getExe' package "cc-ci-bridge";
          User = "cc-ci-bridge";
          # What it has seen, so that a restart misses nothing.
          StateDirectory = "cc-ci-bridge";
          StateDirectoryMode = "0700";
          # Read by systemd as root, and seen by this unit alone.
          LoadCredential =
            lib.optional (cfg.settings ? forge) "forge-token:${cfg.settings.forge.token_file}"
            ++ lib.optional (cfg.settings ? bridge) "drone-token:${cfg.settings.bridge.drone.token_file}"
            ++ lib.optional (
              cfg.settings ? bridge && cfg.settings.bridge ? webhook
            ) "webhook-secret:${cfg.settings.bridge.webhook.secret_file}";
          # A forge that is down is waited for; what ends it is a secret that cannot be read, or a part of it that ended.
          Restart = "on-failure";
          RestartSec = "30s";
          # So it says that it was told to stop.
          SuccessExitStatus = 143;

          # --- It talks to the network, reads its secrets and writes one file. Whoever takes it over has both
          # tokens, and nothing of this host.
          CapabilityBoundingSet = "";
          PrivateUsers = true;
          RemoveIPC = true;
          ProcSubset = "pid";
          # Its connections and answers are bounded, and need a small part of this.
          MemoryMax = "512M";
          TasksMax = 64;
          NoNewPrivileges = true;
          RestrictSUIDSGID = true;
          LockPersonality = true;
          MemoryDenyWriteExecute = true;
          RestrictNamespaces = true;
          RestrictRealtime = true;
          RestrictAddressFamilies = [
            "AF_INET"
            "AF_INET6"
            "AF_UNIX" # nscd and systemd-resolved
          ];
          SystemCallArchitectures = "native";
          SystemCallFilter = [
            "@system-service"
            "~@privileged @resources"
          ];
          SystemCallErrorNumber = "EPERM";
          UMask = "0077";
          ProtectSystem = "strict";
          ProtectHome = true;
          ProtectProc = "invisible";
          PrivateTmp = true;
          PrivateDevices = true;
          ProtectClock = true;
          ProtectControlGroups = true;
          ProtectHostname = true;
          ProtectKernelLogs = true;
          ProtectKernelModules = true;
          ProtectKernelTunables = true;
        };
      };
    })

    (mkIf cfg.drone.enable {
      assertions = [
        {
          assertion = config.systemd.services.${cfg.drone.unit}.serviceConfig ? ExecStart;
          message = ''
            services.cc-ci.drone.enable adds to systemd.services.${cfg.drone.unit}, which nothing else
            defines; declare the runner's service, or name it in services.cc-ci.drone.unit.
          '';
        }
      ];

      systemd.services.${cfg.drone.unit} = {
        # A step that started before these had no place to lock, or no Swarm to deploy to.
        after = dockerUnits ++ [ "systemd-tmpfiles-setup.service" ];
        wants = dockerUnits;
        path = [ package ];
        # As Environment=: an EnvironmentFile that sets it too would win, so leave it out there.
        environment.DRONE_RUNNER_CAPACITY = toString cfg.maxTests;
        serviceConfig = {
          # Each run makes a control group below the runner's, so that all it started can be ended at once.
          Delegate = mkDefault true;
          # Stopping the runner cancels its runs, and they may take their whole teardown budget to
          # clean up; systemd's 90 seconds would kill supervisor and reaper together.
          TimeoutStopSec = mkDefault "15min";
        };
      };
    })
  ]);
}
