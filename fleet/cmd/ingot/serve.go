package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/ingot-metal/ingot/fleet/serve"
)

const serveLong = `Runs all that a fleet needs in one process: the bus (NATS with JetStream and
TLS), control, and, once an interface is named, the boot server with DHCP, TFTP
and HTTP. It starts from an empty directory: keys, certificates and streams are
made on the first start.

DHCP stays off until --interface names one, and does not start where another
DHCP server answers. Unknown machines are shown and not let in until an operator
accepts them; --policy open is for the lab.

It writes DATA/context.json, which the other commands take with --context.`

func (a *app) serveCommand() *cobra.Command {
	var c serve.Config
	var bootFiles, ipxe string
	var busURLs []string
	var verbose bool
	cmd := &cobra.Command{
		Use: "serve", Short: "Run the fleet: bus, control and boot server", Args: args(0, ""), Long: serveLong,
		Example: `  ingot serve                                            # bus and control only, in ./ingot-data
  ingot serve --interface eth1 --machines machines.json  # and the boot server on eth1
  ingot serve --bus tls://10.0.0.1:4222,tls://10.0.0.2:4222,tls://10.0.0.3:4222 --creds ingot-bus/credentials.json
  INGOT_CONTEXT=ingot-data/context.json ingot node list`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkServe(cmd, &c); err != nil {
				return err
			}
			level := slog.LevelInfo
			if verbose {
				level = slog.LevelDebug
			}
			c.Log = slog.New(slog.NewTextHandler(a.stderr, &slog.HandlerOptions{Level: level}))
			c.Ready = func(line string) { fmt.Fprintln(a.stdout, line) }
			var err error
			if c.Bus, err = externalBus(busURLs, c.BusCredentials); err != nil {
				return err
			}
			if err := a.bootFiles(&c, bootFiles, ipxe); err != nil {
				return err
			}
			return explainServe(serve.Run(cmd.Context(), c))
		},
	}
	f := cmd.Flags()
	f.BoolVar(&c.Lab, "lab", false, "the lab's fleet: its keys are refused outside, and policy open is allowed")
	f.StringVar(&c.Data, "data", "ingot-data", "directory of keys, certificates and streams; made when missing")
	f.StringVar(&c.Keys, "keys", "", "directory of the signing keys (default DATA/keys)")
	f.StringVar(&c.Interface, "interface", "", "network interface of the boot server; none, no DHCP")
	f.StringVar(&c.Policy, "policy", "approve", "who is let in: approve, or open (lab only)")
	f.StringVar(&bootFiles, "boot-files", "build", "directory `DIR` that \"make image\" filled: agent/ and tools/")
	f.StringVar(&ipxe, "ipxe", "", "directory of undionly.kpxe and snponly.efi (default BOOT-FILES/tools/usr/lib/ipxe)")
	f.StringVar(&c.Stacks, "stacks", "", "OCI layout of the stacks (default BOOT-FILES/stacks, when it is there)")
	f.StringVar(&c.Machines, "machines", "", "JSON file of the machines that are expected")
	f.StringVar(&c.Credentials, "bmc-credentials", "", "JSON file with user and password of the BMCs")
	f.StringSliceVar(&busURLs, "bus", nil, "a bus that runs apart: tls://HOST:4222, several with commas (default one in this process)")
	f.StringVar(&c.BusCredentials, "creds", "", "credentials of that bus, as ingot bus config wrote them")
	f.StringVar(&c.Listen, "nats-listen", "", "address of the bus (default 127.0.0.1:4222, or the interface's own)")
	f.Uint16Var(&c.HTTPPort, "http-port", 8080, "port of the boot server's HTTP")
	f.StringArrayVar(&c.Reconcilers, "reconciler", nil, "public nkey of a grant reconciler that runs apart; may be given again")
	f.BoolVarP(&verbose, "verbose", "v", false, "log everything")
	return cmd
}

func checkServe(cmd *cobra.Command, c *serve.Config) error {
	switch {
	case c.Policy != "approve" && c.Policy != "open":
		return usagef("--policy %q: want approve or open", c.Policy)
	case c.Policy == "open" && !c.Lab:
		return usagef("--policy open lets every machine in that asks: it is for --lab only")
	case c.HTTPPort == 0:
		return usagef("--http-port 0: want a port")
	}
	if c.Listen != "" && cmd.Flags().Changed("bus") {
		return usagef("--nats-listen is for the bus in this process, --bus for one that runs apart: name one of them")
	}
	if c.Listen != "" {
		if _, err := netip.ParseAddrPort(c.Listen); err != nil {
			return usagef("--nats-listen %q: want ADDRESS:PORT", c.Listen)
		}
	}
	c.Keys = cmp.Or(c.Keys, filepath.Join(c.Data, "keys"))
	return nil
}

// bootFiles finds what the boot server serves, and says what makes it where it
// is missing.
func (a *app) bootFiles(c *serve.Config, dir, ipxe string) error {
	if c.Stacks == "" {
		c.Stacks = existing(filepath.Join(dir, "stacks"))
	}
	if c.Interface == "" {
		return nil
	}
	ipxe = cmp.Or(ipxe, filepath.Join(dir, "tools/usr/lib/ipxe"))
	c.Kernel, c.Initramfs = filepath.Join(dir, "agent", kernelFile), filepath.Join(dir, "agent", initramfsFile)
	c.Undionly, c.SNPOnly = filepath.Join(ipxe, "undionly.kpxe"), filepath.Join(ipxe, "snponly.efi")
	for _, need := range []struct{ path, mend string }{
		{c.Kernel, "make image, or name the directory with --boot-files"}, {c.Initramfs, "make image"},
		{c.Undionly, "make build/tools/.stamp, or name the directory with --ipxe"}, {c.SNPOnly, "make build/tools/.stamp"},
	} {
		if _, err := os.Stat(need.path); err != nil {
			return fmt.Errorf("look for the boot files: %w (run: %s)", err, need.mend)
		}
	}
	return nil
}

// explainServe adds to a bad start what to do about it.
func explainServe(err error) error {
	hint := ""
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.EADDRINUSE):
		hint = "another process has the port: end it, or choose another with --nats-listen or --http-port"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		hint = "no interface of this machine has that address"
	case errors.Is(err, syscall.ENOSPC):
		hint = "make room there, or choose a directory on another disk with --data or --keys"
	case errors.Is(err, syscall.EROFS):
		hint = "choose a directory on a disk that can be written with --data or --keys"
	case errors.Is(err, syscall.ENOTDIR):
		hint = "a file stands where a directory should be: name another with --data or --keys"
	case errors.Is(err, fs.ErrPermission):
		hint = "choose a directory that you may write with --data, or be root for ports below 1024"
	case errors.Is(err, context.Canceled):
		return nil
	}
	if hint == "" || strings.Contains(err.Error(), hint) {
		return err
	}
	return fmt.Errorf("%w (%s)", err, hint)
}
