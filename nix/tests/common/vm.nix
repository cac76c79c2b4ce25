# The node of every VM test: the host of ./host.nix with Docker, images from the store, and the lab.
{ self }:
{
  defaults =
    { pkgs, ... }:
    {
      imports = [
        self.nixosModules.default
        ./host.nix
      ];

      environment = {
        etc = {
          "cc-ci-lab".source = ./lab;
          "cc-ci-lab-image.tar.gz".source = pkgs.dockerTools.buildImage {
            name = "cc-ci-lab";
            tag = "1";
            copyToRoot = pkgs.buildEnv {
              name = "cc-ci-lab-root";
              paths = [
                pkgs.busybox
                (pkgs.writeTextDir "www/index.html" "hello\n")
              ];
              pathsToLink = [
                "/bin"
                "/www"
              ];
            };
          };
        };
        # What ./lab/lab itself calls.
        systemPackages = [
          pkgs.diffutils
          pkgs.git
          pkgs.jq
          pkgs.procps
        ];
      };

      virtualisation = {
        cores = 2;
        diskSize = 4096;
        memorySize = 2048;
      };
    };

  nodes.machine = { };
}
