{
  chromium,
  mkShell,
  rust-analyzer,
  packageSet,
  treefmt,
}:
let
  inherit (packageSet) craneLib runtimeTools unwrapped;
in
{
  # Everything that the README's test command and the editor need.
  default = craneLib.devShell {
    inputsFrom = [ unwrapped ];
    packages = [
      chromium
      rust-analyzer
      treefmt
    ]
    ++ runtimeTools
    ++ packageSet.lintTools;
  };

  # `nix develop .#lint --command cc-ci-lint repo`: the linter with exactly the tools it drives.
  # A C compiler belongs to them: clippy builds what the crates' build scripts are.
  lint = mkShell {
    packages = [ unwrapped ] ++ packageSet.lintTools;
  };
}
