{
  lib,
  stdenv,
  symlinkJoin,
  installShellFiles,
  makeBinaryWrapper,
  bash,
  coreutils,
  docker-client,
  git,
  python3,
  util-linux,
  cargo,
  clippy,
  rustfmt,
  nixfmt,
  statix,
  deadnix,
  shellcheck,
  shfmt,
  yamllint,
  crane,
  pkgs,
}:
let
  craneLib = crane.mkLib pkgs;

  fs = lib.fileset;
  workspace = (lib.importTOML ../Cargo.toml).workspace.package;

  # What cargo reads and nothing else: a word changed in docs/ or nix/ rebuilds no crate.
  src = fs.toSource {
    root = ../.;
    fileset = fs.unions [
      ../Cargo.toml
      ../Cargo.lock
      ../clippy.toml
      ../deny.toml
      ../rustfmt.toml
      ../crates
      ../tests
    ];
  };

  commonArgs = {
    pname = "cc-ci";
    inherit (workspace) version;
    inherit src;
    strictDeps = true;
  };

  # Every crate of the lock file built once, for the package and for all cargo checks.
  cargoArtifacts = craneLib.buildDepsOnly commonArgs;

  unwrapped = craneLib.buildPackage (
    commonArgs
    // {
      pname = "cc-ci-unwrapped";
      inherit cargoArtifacts;

      # The suites are the check `tests`, so that a package is to be had while one of them is red.
      doCheck = false;

      nativeBuildInputs = [ installShellFiles ];
      # The shebang of prepare-swarm: a NixOS unit's PATH has no bash.
      buildInputs = [ bash ];
      postInstall = ''
        # The suites' own apps are members of the workspace and no part of the product. Built all the
        # same: with fewer members cargo would choose other features, and cargoArtifacts be in vain.
        find "$out/bin" -type f ! -name 'cc-ci-*' -delete

        install -D --mode=0755 ${./prepare-swarm.sh} "$out/libexec/cc-ci/prepare-swarm"
      ''
      # The programs write their own: where they cannot run (cross builds) there are none.
      + lib.optionalString (stdenv.buildPlatform.canExecute stdenv.hostPlatform) ''
        for program in "$out"/bin/*; do
          "$program" generate man generated/man
          "$program" generate completions generated/completions
        done
        installManPage generated/man/*
        installShellCompletion \
          --bash generated/completions/*.bash \
          --fish generated/completions/*.fish \
          --zsh generated/completions/_*
      '';

      meta = {
        description = "Exclusive test deploys of Co-op Cloud recipes with guaranteed cleanup";
        homepage = workspace.repository;
        license = lib.getLicenseFromSpdxId workspace.license;
        platforms = lib.platforms.linux;
        mainProgram = "cc-ci-run";
      };
    }
  );

  # The one list of tools that a run, a sweep and a CI step find on their PATH.
  # abra is the host's choice and comes by `extraPackages`.
  runtimeTools = [
    bash
    coreutils
    docker-client
    git
    (python3.withPackages (ps: [ ps.pytest ]))
    # The screenshot's browser is another user's.
    util-linux
  ];

  # What `cc-ci-lint repo` drives. A tool missing here is a failure there, never a silent skip.
  lintTools = [
    cargo
    clippy
    rustfmt
    nixfmt
    statix
    deadnix
    shellcheck
    shfmt
    yamllint
  ];

  wrap =
    {
      extraPackages ? [ ],
    }:
    symlinkJoin {
      pname = "cc-ci";
      inherit (unwrapped) version meta;
      paths = [ unwrapped ];
      nativeBuildInputs = [ makeBinaryWrapper ];
      # A binary wrapper execs: same pid, so the keeper's parent is still the step that called it, and
      # the death signal of that parent is still the harness's own. Our tools come before the
      # caller's PATH, lest a step and a timer run different ones under the same name.
      postBuild = ''
        for name in cc-ci-run cc-ci-janitor; do
          rm "$out/bin/$name"
          makeWrapper "${unwrapped}/bin/$name" "$out/bin/$name" \
            --inherit-argv0 \
            --prefix PATH : ${lib.makeBinPath (runtimeTools ++ extraPackages)}
        done
      '';
      passthru = { inherit unwrapped runtimeTools; };
    };
in
{
  inherit
    craneLib
    commonArgs
    cargoArtifacts
    unwrapped
    runtimeTools
    lintTools
    ;

  cc-ci = lib.makeOverridable wrap { };
}
