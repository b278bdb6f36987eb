package main

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ingot-metal/ingot/fleet/bus"
)

const busLong = `"ingot serve" has a bus of its own in its process, which is enough for one
controller and thousands of nodes. A bus that runs apart is one nats-server, or
a cluster of three that survives the loss of any one of them:

  ingot bus config --servers n1=10.0.0.1,n2=10.0.0.2,n3=10.0.0.3   # writes ./ingot-bus
  nats-server -c ingot-bus/n1/nats.conf                            # on each server (or: ingot bus run)
  ingot serve --bus tls://10.0.0.1:4222,tls://10.0.0.2:4222,tls://10.0.0.3:4222 \
      --creds ingot-bus/credentials.json`

func (a *app) busCommand() *cobra.Command {
	return group(&cobra.Command{Use: "bus", Short: "Configure a bus that runs apart from ingot serve", Long: busLong},
		a.busConfigCommand(), a.busRunCommand())
}

func (a *app) busConfigCommand() *cobra.Command {
	var out, only, listen, store, files string
	var servers []string
	var port, cluster int
	cmd := &cobra.Command{
		Use: "config", Short: "Print a nats-server configuration, and write it with keys and certificates", Args: args(0, ""),
		Long: `Writes, for each server, a directory with nats.conf and its certificates: the
accounts and the subjects that lead between them, the auth callout, JetStream
with sync_interval: always, TLS and the routes of a cluster. The configuration
of the first server, or of --server, is printed too. Keys that are there stay;
credentials.json is for ingot serve --creds alone.`,
		Example: `  ingot bus config                                        # one server on this machine
  ingot bus config --servers n1=10.0.0.1,n2=10.0.0.2,n3=10.0.0.3 --files /etc/nats --store /var/lib/nats
  ingot bus config --servers n1=10.0.0.1,n2=10.0.0.2,n3=10.0.0.3 --server n2 > n2.conf`,
		RunE: func(*cobra.Command, []string) error {
			l := bus.Layout{Dir: out}
			for _, s := range servers {
				name, address, ok := strings.Cut(s, "=")
				if !ok || name == "" || address == "" {
					return usagef("--servers %q: want NAME=ADDRESS", s)
				}
				l.Servers = append(l.Servers, bus.Host{Name: name, Address: address, Port: port, Cluster: cluster, Listen: listen, Store: store, Files: files})
			}
			configs, err := l.Write()
			if err != nil {
				return err
			}
			if only == "" {
				only = l.Servers[0].Name
			}
			text, ok := configs[only]
			if !ok {
				return usagef("--server %q: is none of --servers", only)
			}
			fmt.Fprint(a.stdout, text)
			fmt.Fprintf(a.stderr, "Written to %s: a directory for each server, and %s for: ingot serve --bus %s --creds %s\n", out, bus.CredentialsFile,
				strings.Join(l.URLs(), ","), filepath.Join(out, bus.CredentialsFile))
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&out, "out", "ingot-bus", "directory of keys, certificates and configurations; made when missing")
	f.StringSliceVar(&servers, "servers", []string{"bus=127.0.0.1"}, "the servers, as NAME=ADDRESS; one, or three and more")
	f.StringVar(&only, "server", "", "whose configuration is printed (default the first)")
	f.StringVar(&listen, "listen", "", "address that the servers listen at (default all)")
	f.IntVar(&port, "port", 0, "port for nodes and consoles (default 4222)")
	f.IntVar(&cluster, "cluster-port", 0, "port between the servers (default 6222)")
	f.StringVar(&store, "store", "", "directory of JetStream on each server (default /var/lib/nats/NAME)")
	f.StringVar(&files, "files", "", "where each server finds its certificates (default where they are written)")
	return cmd
}

func (a *app) busRunCommand() *cobra.Command {
	var verbose bool
	cmd := &cobra.Command{
		Use: "run NATS.CONF", Short: "Run a nats-server with a configuration, in the foreground", Args: args(1, "a configuration"),
		Example: "  ingot bus run ingot-bus/n1/nats.conf",
		Long:    "Runs the nats-server that this program is built with (no other is needed) until\nit is interrupted.",
		RunE: func(cmd *cobra.Command, given []string) error {
			level := slog.LevelWarn
			if verbose {
				level = slog.LevelDebug
			}
			log := slog.New(slog.NewTextHandler(a.stderr, &slog.HandlerOptions{Level: level}))
			return bus.Run(cmd.Context(), given[0], log, func(line string) { fmt.Fprintln(a.stdout, line) })
		},
	}
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "log everything")
	return cmd
}

// externalBus is the bus that --bus and --creds name.
func externalBus(urls []string, creds string) (*bus.External, error) {
	switch {
	case len(urls) == 0 && creds == "":
		return nil, nil
	case len(urls) == 0:
		return nil, usagef("--creds %s: name the bus too, with --bus tls://HOST:4222", creds)
	case creds == "":
		return nil, usagef("--bus %s: name its credentials too, with --creds FILE (ingot bus config writes them)", strings.Join(urls, ","))
	}
	st, err := os.Stat(creds)
	if err != nil {
		return nil, fmt.Errorf("read the credentials of the bus: %w", err)
	}
	if st.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("read the credentials of the bus: %s may be read by others, and holds secrets: chmod 600 %s", creds, creds)
	}
	return &bus.External{URLs: urls}, nil
}
