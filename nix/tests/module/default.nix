# The module, evaluated as a host would: what it writes for systemd against the committed files, what
# it refuses against the refusal it ought to give, and one settings file that must not build.
#
# ../golden is the VM tests' host, and what their scripts run with on a guest that is not NixOS;
# ../../units is a host with the defaults, and what distributions without Nix install.
{
  self,
  lib,
  pkgs,
  system,
}:
let
  evaluate =
    modules:
    (lib.nixosSystem {
      modules = [
        self.nixosModules.default
        {
          nixpkgs.hostPlatform = system;
          system.stateVersion = lib.trivial.release;
          # The least that counts as a host: nothing here is ever booted.
          boot.loader.grub.enable = false;
          fileSystems."/".device = "none";
        }
      ]
      ++ modules;
    }).config;

  # --- what systemd is given

  # Stands where a package manager other than Nix would install cc-ci.
  installed = {
    type = "derivation";
    name = "cc-ci";
    outPath = "/usr";
    meta.mainProgram = "cc-ci-run";
  };

  # NixOS tells every service where its own tools and tables are, and when to start it again. They are
  # store paths, change with each nixpkgs, and mean nothing elsewhere. Nor does the white space of its
  # generator.
  tidy =
    text:
    let
      lines = lib.filter (
        line:
        !(
          (lib.hasPrefix "Environment=" line || lib.hasPrefix "X-Restart-Triggers=" line)
          && lib.hasInfix builtins.storeDir line
        )
      ) (map lib.trim (lib.splitString "\n" text));
      folded = lib.foldl' (
        kept: line: if line == "" && lib.hasSuffix "\n\n" kept then kept else kept + line + "\n"
      ) "" lines;
    in
    # What is left names no store path, so nothing of it has to be built.
    builtins.unsafeDiscardStringContext (lib.trim folded + "\n");

  textsOf =
    units: module:
    let
      host = evaluate [
        module
        { services.cc-ci.package = installed; }
      ];
      tmpfiles = lib.findFirst (p: p.name == "cc-ci.conf") null host.systemd.tmpfiles.packages;
    in
    lib.genAttrs units (unit: tidy host.systemd.units.${unit}.text)
    // {
      "cc-ci.conf" = tidy tmpfiles.text;
      # JSON's numbers and strings are TOML's too, and these hosts have no tables.
      "settings.toml" = lib.concatLines (
        lib.mapAttrsToList (key: value: "${key} = ${builtins.toJSON value}") host.services.cc-ci.settings
      );
    };

  own = [
    "cc-ci-janitor.service"
    "cc-ci-janitor.timer"
    "cc-ci-swarm.service"
  ];

  # By the folder of nix/ that each set is committed in.
  texts = {
    "tests/golden" = textsOf (own ++ [ "drone-runner-exec.service" ]) ../common/host.nix;
    units =
      let
        # For the unit alone: what it reads in the settings has no defaults.
        withBridge = textsOf [ "cc-ci-bridge.service" ] {
          services.cc-ci = {
            enable = true;
            bridge.enable = true;
            settings = {
              forge = {
                url = "https://git.example.org";
                token_file = "/run/secrets/cc-ci-forge";
              };
              bridge = {
                repositories = [ "coop-cloud/custom-html" ];
                drone = {
                  url = "https://drone.example.org";
                  token_file = "/run/secrets/cc-ci-drone";
                  repository = "coop-cloud/cc-ci";
                };
              };
            };
          };
        };
      in
      textsOf own {
        services.cc-ci = {
          enable = true;
          swarm.enable = true;
        };
        virtualisation.docker.enable = true;
      }
      // {
        inherit (withBridge) "cc-ci-bridge.service";
      };
  };

  # --- what it refuses

  refusals =
    module:
    let
      host = evaluate [
        ../common/host.nix
        module
      ];
    in
    map (each: each.message) (lib.filter (each: !each.assertion) host.assertions);

  refused = {
    "a sweep without time" = {
      module.services.cc-ci.janitor.interval = lib.mkForce "59s";
      says = "services.cc-ci.janitor.interval is 59s";
    };
    "a Swarm without Docker" = {
      module.virtualisation.docker.enable = lib.mkForce false;
      says = "virtualisation.docker.enable = true";
    };
    "a proxy network that runs dry" = {
      module.services.cc-ci.swarm.subnet = lib.mkForce "10.9.0.0/24";
      says = "give it a /16 or wider";
    };
    "a bridge that leads nowhere" = {
      module.services.cc-ci.bridge.enable = true;
      says = "services.cc-ci.bridge.enable starts a bridge that knows no forge";
    };
    "a runner that is not there" = {
      module.services.cc-ci.drone.unit = "drone-runner-docker";
      says = "systemd.services.drone-runner-docker, which nothing else";
    };
  };

  wronglyAccepted = lib.filterAttrs (
    _: case: !lib.any (lib.hasInfix case.says) (refusals case.module)
  ) refused;

  settingsOf =
    module:
    (evaluate [
      ../common/host.nix
      module
    ]).environment.etc."cc-ci/settings.toml".source;
in
{
  module =
    assert lib.assertMsg (
      refusals { } == [ ]
    ) "the module refuses its own example: ${toString (refusals { })}";
    assert lib.assertMsg (
      wronglyAccepted == { }
    ) "the module accepts ${toString (lib.attrNames wronglyAccepted)}";
    pkgs.runCommand "cc-ci-module-texts"
      {
        # `nix eval --json .#checks.SYSTEM.module.texts`, which ./update-golden.sh writes below nix/.
        passthru = { inherit texts; };
        evaluated = pkgs.linkFarm "cc-ci-evaluated" (
          lib.concatMapAttrs (
            folder: lib.mapAttrs' (name: text: lib.nameValuePair "${folder}/${name}" (pkgs.writeText name text))
          ) texts
        );
        committed = lib.fileset.toSource {
          root = ../..;
          fileset = lib.fileset.unions [
            ../golden
            ../../units
          ];
        };
      }
      ''
        if ! diff --unified --recursive "$committed" "$evaluated/"; then
          echo "the module's texts differ from those committed; if that is meant: nix/tests/module/update-golden.sh" >&2
          exit 1
        fi
        touch "$out"
      '';

  settings-accepted = settingsOf { };

  # The negative control of the build-time check: one misspelt key, and the system does not build.
  settings-rejected =
    pkgs.runCommand "cc-ci-settings-rejected"
      {
        failed = pkgs.testers.testBuildFailure (settingsOf {
          services.cc-ci.settings.dead_line = "60m";
        });
      }
      ''
        grep --fixed-strings dead_line "$failed/testBuildFailure.log"
        touch "$out"
      '';
}
