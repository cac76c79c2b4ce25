{
  self,
  lib,
  pkgs,
  system,
  packageSet,
}:
let
  inherit (packageSet)
    cargoArtifacts
    commonArgs
    craneLib
    lintTools
    runtimeTools
    unwrapped
    ;

  cargoCheck = run: args: run (commonArgs // { inherit cargoArtifacts; } // args);

  # Each file proves one thing on a real Swarm; what they share is nix/tests/common.
  testFiles = lib.filterAttrs (file: type: type == "regular" && lib.hasSuffix ".nix" file) (
    builtins.readDir ./tests
  );

  vmTest =
    file:
    pkgs.testers.runNixOSTest {
      imports = [
        (./tests + "/${file}")
        (lib.modules.importApply ./tests/common/vm.nix { inherit self; })
      ];
      # A hang is what these tests look for: it has to end as a failure.
      globalTimeout = 15 * 60;
    };

  vmTests = lib.mapAttrs' (
    file: _: lib.nameValuePair "vm-${lib.removeSuffix ".nix" file}" (vmTest file)
  ) testFiles;
in
{
  clippy = cargoCheck craneLib.cargoClippy {
    cargoClippyExtraArgs = "--workspace --all-targets -- --deny warnings";
  };

  doc = cargoCheck craneLib.cargoDoc {
    cargoDocExtraArgs = "--workspace --no-deps --document-private-items";
    env.RUSTDOCFLAGS = "--deny warnings";
  };

  fmt = craneLib.cargoFmt { inherit (commonArgs) pname version src; };

  # Licences, sources and bans. Advisories change from day to day: a locked check cannot hold them.
  deny = craneLib.cargoDeny { inherit (commonArgs) pname version src; };

  # Unit tests only. The suites under tests/ need a whole kernel: sessions, a /proc/locks that is not
  # cut at a sandbox's pid namespace, root for oom_score_adj; those of the Swarm need Docker besides.
  # They run by tests/all.sh, and what they claim is claimed again by the VM tests below.
  tests = cargoCheck craneLib.cargoTest {
    cargoTestExtraArgs = "--workspace --lib --bins";
    nativeBuildInputs = runtimeTools ++ [ pkgs.procps ];
  };

  # The whole tree, for the house rules look at docs, CI and Nix files as well. It comes without .git:
  # the flake has left out what is ignored already.
  lint = cargoCheck craneLib.mkCargoDerivation {
    pnameSuffix = "-lint";
    src = self;
    nativeBuildInputs = lintTools ++ [ unwrapped ];
    doInstallCargoArtifacts = false;
    buildPhaseCargoCommand = "cc-ci-lint repo";
  };
}
// import ./tests/module {
  inherit
    self
    lib
    pkgs
    system
    ;
}
// vmTests
// lib.mapAttrs' (name: lib.nameValuePair "package-${name}") self.packages.${system}
// lib.mapAttrs' (name: lib.nameValuePair "devshell-${name}") self.devShells.${system}
