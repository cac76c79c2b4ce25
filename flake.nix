{
  description = "Exclusive test deploys of Co-op Cloud recipes with guaranteed cleanup";

  inputs = {
    nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";
    crane.url = "github:ipetkov/crane";
  };

  outputs =
    {
      self,
      nixpkgs,
      crane,
    }:
    let
      inherit (nixpkgs) lib;

      # Linux only: /proc/locks says who holds what, PR_SET_PDEATHSIG bounds a run's life.
      systems = [
        "x86_64-linux"
        "aarch64-linux"
      ];

      eachSystem =
        f:
        lib.genAttrs systems (
          system:
          f {
            inherit system;
            pkgs = nixpkgs.legacyPackages.${system};
          }
        );

      packageSet = eachSystem ({ pkgs, ... }: pkgs.callPackage ./nix/packages.nix { inherit crane; });

      treefmt = eachSystem ({ pkgs, ... }: pkgs.callPackage ./nix/treefmt.nix { });

      module = {
        # `default` and `cc-ci` are one module: imported by both names it is still declared once.
        key = "cc-ci/nix/module.nix";
        imports = [ (lib.modules.importApply ./nix/module.nix { inherit self; }) ];
      };
    in
    {
      packages = eachSystem (
        { system, ... }:
        {
          inherit (packageSet.${system}) cc-ci;
          default = packageSet.${system}.cc-ci;
        }
      );

      # Built against our own nixpkgs, not the importing one: compiler and crane are pinned together.
      overlays.default = final: _prev: {
        inherit (self.packages.${final.stdenv.hostPlatform.system}) cc-ci;
      };

      nixosModules = {
        cc-ci = module;
        default = module;
      };

      checks = eachSystem (
        { pkgs, system }:
        import ./nix/checks.nix {
          inherit
            self
            lib
            pkgs
            system
            ;
          packageSet = packageSet.${system};
        }
      );

      devShells = eachSystem (
        { pkgs, system }:
        pkgs.callPackages ./nix/devshells.nix {
          packageSet = packageSet.${system};
          treefmt = treefmt.${system};
        }
      );

      formatter = treefmt;
    };
}
