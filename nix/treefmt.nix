# `nix fmt`: the same formatters, by the same names, that `cc-ci-lint repo` checks with.
{
  treefmt,
  nixfmt,
  rustfmt,
  shfmt,
}:
treefmt.withConfig {
  name = "cc-ci-fmt";

  runtimeInputs = [
    nixfmt
    rustfmt
    shfmt
  ];

  settings = {
    tree-root-file = "flake.nix";
    # README, lock files, fixtures: most files have no formatter, and that is no news.
    on-unmatched = "debug";

    formatter = {
      nixfmt = {
        command = "nixfmt";
        includes = [ "*.nix" ];
      };
      rustfmt = {
        command = "rustfmt";
        options = [
          "--edition"
          (builtins.fromTOML (builtins.readFile ../Cargo.toml)).workspace.package.edition
        ];
        includes = [ "*.rs" ];
      };
      shfmt = {
        command = "shfmt";
        options = [
          "--write"
          "--indent"
          "2"
        ];
        # Also the scripts without an ending, which cc-ci-lint knows by their first line.
        includes = [
          "*.sh"
          ".ci/run"
          "nix/tests/common/lab/lab"
          "nix/tests/common/lab/tests/*/custom/*"
          "tests/recipes/*/hooks/*"
        ];
      };
    };
  };
}
