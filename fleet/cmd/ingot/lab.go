package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/ingot-metal/ingot/fleet/render"
	"github.com/ingot-metal/ingot/qemu-tests/lab"
	"github.com/ingot-metal/ingot/qemu-tests/scenario"
)

const labLong = `The lab is a rack on this machine, without hardware and, where KVM does not work,
without it: two servers in QEMU (one with a PC BIOS, one with UEFI), each with a
BMC whose power button works, a switch, and "ingot serve". It lives in namespaces
of its own; when its process ends, nothing of it is left.`

func (a *app) labCommand() *cobra.Command {
	return group(&cobra.Command{Use: "lab", Short: "A virtual rack on this machine", Long: labLong},
		a.labDoctorCommand(), a.labUpCommand(), a.labDownCommand(), a.labStatusCommand(), a.labConsoleCommand(), a.labPcapCommand(), a.labCableCommand("cut", true), a.labCableCommand("mend", false), a.labBusCommand(), a.labServeCommand(), a.labMainsCommand())
}

func (a *app) labUpCommand() *cobra.Command {
	var build, logs, stack, accel string
	var reconcilers []string
	var listen, busKind, policy string
	var gdb []string
	var ports map[string]int
	var servers []string
	c := &cobra.Command{
		Use: "up", Short: "Make the lab; it stays up until Ctrl-C", Args: args(0, ""),
		Long: `Makes the rack and stays in the foreground. With --run it does the whole job:
it powers both servers on (one over Redfish, one over IPMI), waits for their
inventory, assigns the stack with a fresh nonce, and prints what the service in
the container in the virtual machine on each server answers.

Kinds of servers: bios (r1u1) and uefi (r1u2) are there where nothing else is
said; rich (r1u3) has two NUMA nodes, four DIMMs, two kinds of NICs, NVMe, SATA
and SCSI drives; the BMC of disagree (r1u4) and its kernel do not see the same.`,
		Example: "  ingot lab up\n  ingot lab up --run hello\n  ingot lab up --logs build/lab     # consoles and logs outlive the lab\n  ingot lab up --lab two --port http=8081   # a second lab, a port that stays the same",
		RunE: func(cmd *cobra.Command, _ []string) error {
			o, err := a.labOptions(build, logs, accel)
			if err != nil {
				return err
			}
			for _, key := range reconcilers {
				o.Serve = append(o.Serve, "--reconciler", key)
			}
			if busKind != "embedded" && busKind != "cluster" {
				return usagef("--bus %q: want embedded or cluster", busKind)
			}
			if policy != "open" && policy != "approve" {
				return usagef("--policy %q: want open or approve", policy)
			}
			o.Serve = append(o.Serve, "--policy", policy)
			if o.Servers, err = lab.Choose(servers); err != nil {
				return usagef("--servers: %v", err)
			}
			o.GDB = gdb
			o.Listen, o.Ports, o.Cluster = listen, ports, busKind == "cluster"
			return a.labUp(cmd.Context(), o, stack)
		},
	}
	f := c.Flags()
	f.StringVar(&build, "build", "build", buildUsage)
	f.StringVar(&accel, "accel", string(lab.AccelAuto), accelUsage)
	f.StringVar(&logs, "logs", "", "directory `DIR` for consoles and logs (default: in memory, gone with the lab)")
	f.StringVar(&stack, "run", "", "stack to carry to both servers: the whole job, from power button to answer")
	f.StringVar(&busKind, "bus", "embedded", "embedded: in the process of ingot serve; cluster: three nats-servers apart")
	f.StringVar(&policy, "policy", "open", "open: every server is let in; approve: each waits for ingot node approve")
	f.StringSliceVar(&servers, "servers", []string{"bios", "uefi"}, "`KINDS` of servers: bios, uefi, rich, disagree")
	f.StringSliceVar(&gdb, "gdb", nil, "`SERVER` whose processors a debugger may stop; ingot lab status shows where")
	f.StringVar(&listen, "listen", "127.0.0.1", "address of the ways in; with another than loopback, the network reaches the lab")
	f.StringToIntVar(&ports, "port", nil, "`WAY=PORT` for ways in: nats=4222,http=8080,r1u1.service=8001; without, free ones")
	f.StringArrayVar(&reconcilers, "reconciler", nil, "public nkey of a grant reconciler that runs apart; may be given again")
	return c
}

func (a *app) labUp(ctx context.Context, options lab.Options, stack string) error {
	a.progress("lab: making the rack")
	l, err := lab.Up(ctx, options)
	if err != nil {
		return err
	}
	err = a.labLife(ctx, l, options, stack)
	return errors.Join(err, l.Close())
}

func (a *app) labLife(ctx context.Context, l *lab.Lab, o lab.Options, stack string) error {
	st, err := lab.Status(ctx, o.Name)
	if err != nil {
		return err
	}
	if err := a.show(st, func(s render.Style) string { return labPage(s, st) }); err != nil {
		return err
	}
	job, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	if stack != "" {
		go func() { done <- a.labRun(job, st, stack) }()
	} else {
		fmt.Fprintf(a.stderr, "\nThe lab is up. In another terminal: ingot node list, ingot node power on r1u1\nCtrl-C ends it.\n")
	}
	for {
		select {
		case <-ctx.Done():
			a.progress("lab: going down")
			return nil
		case <-l.Done():
			return l.Wait()
		case err := <-done:
			if ctx.Err() != nil {
				continue
			}
			if err != nil {
				return fmt.Errorf("carry %s to the rack: %w", stack, err)
			}
		}
	}
}

const (
	buildUsage = "directory `DIR` that \"make image stack\" filled"
	accelUsage = "what servers run under: tcg, kvm, or auto: KVM where a guest has started under it"
)

// labOptions says what the lab is made of.
func (a *app) labOptions(build, logs, accel string) (lab.Options, error) {
	var o lab.Options
	abs, err := filepath.Abs(build)
	if err != nil {
		return o, fmt.Errorf("path of the build directory: %w", err)
	}
	switch lab.Accel(accel) {
	case lab.AccelAuto, lab.AccelTCG, lab.AccelKVM:
	default:
		return o, usagef("--accel %q: want auto, tcg or kvm", accel)
	}
	program, err := os.Executable()
	if err != nil {
		return o, fmt.Errorf("find this program: %w", err)
	}
	o = lab.Options{
		Name: a.labName, Build: abs, Accel: lab.Accel(accel), Logs: logs,
		Serve: lab.ServeArgs(program, abs, filepath.Join(abs, "keys")),
	}
	if o.Name == "" {
		o.Name = "default"
	}
	return o, nil
}

// labRun does the whole job with the very commands that an operator would type.
func (a *app) labRun(ctx context.Context, st *lab.LabStatus, stack string) error {
	client, err := a.labClient(ctx, st.Name)
	if err != nil {
		return err
	}
	defer client.Close()
	program, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	job := scenario.Job{
		Client: client, Stack: stack, Servers: scenario.Servers(st),
		Say: func(line string) { fmt.Fprintln(a.stdout, line) },
		Ingot: func(ctx context.Context, args ...string) error {
			fmt.Fprintf(a.stdout, "$ ingot %s\n", strings.Join(args, " "))
			return scenario.Ingot(program, st.Name)(ctx, args...)
		},
	}
	ctx, cancel := a.limited(ctx, patient)
	defer cancel()
	outcomes, err := job.Run(ctx)
	if err != nil {
		return err
	}
	for _, o := range outcomes {
		fmt.Fprintf(a.stdout, "\n%s answers at %s after %s:\n%s\n", o.Name, o.URL, render.Took(o.Took), strings.TrimSpace(string(o.Raw)))
	}
	fmt.Fprintf(a.stdout, "\nBoth services answer. Try in another terminal:\n  ingot node list\n  ingot node show %s\n  curl %s\n  ingot node vm stop %s %s     # and look at the status again\nCtrl-C ends the lab.\n",
		outcomes[0].Name, outcomes[0].URL, outcomes[0].Name, outcomes[0].Answer.VM)
	return nil
}

func labPage(s render.Style, st *lab.LabStatus) string {
	var rows [][]string
	for _, m := range st.Servers {
		rows = append(rows, []string{m.Name, m.Firmware, m.Power, m.Serial, m.MAC, m.Redfish, m.IPMI, m.Service})
	}
	page := s.Table([]string{"SERVER", "FIRMWARE", "POWER", "SERIAL", "MAC", "REDFISH", "IPMI (UDP)", "SERVICE"}, rows)
	serve := "not running"
	if st.Serve.Running {
		serve = fmt.Sprintf("bus %s  boot server %s", st.Serve.NATS, st.Serve.HTTP)
	} else if st.Serve.Exit != "" {
		serve = "ended: " + st.Serve.Exit
	}
	under := fmt.Sprintf("%s (%s)", strings.ToUpper(string(st.Accel)), st.Why)
	return fmt.Sprintf("lab %s, process %d\nserve: %s\nservers run under %s\n\n%s", st.Name, st.PID, serve, under, page)
}

func (a *app) labDownCommand() *cobra.Command {
	return &cobra.Command{
		Use: "down", Short: "End the lab and all that is in it", Args: args(0, ""), Example: "  ingot lab down",
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := a.limited(cmd.Context(), quick)
			defer cancel()
			if err := lab.Down(ctx, a.labName); err != nil {
				return err
			}
			a.progress("lab: down")
			return nil
		},
	}
}

func (a *app) labStatusCommand() *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "The rack: power, addresses, ways in", Args: args(0, ""), Example: "  ingot lab status\n  ingot lab status -o json | jq -r '.servers[0].redfish'",
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := a.limited(cmd.Context(), quick)
			defer cancel()
			st, err := lab.Status(ctx, a.labName)
			if err != nil {
				return err
			}
			return a.show(st, func(s render.Style) string { return labPage(s, st) })
		},
	}
}

func (a *app) labConsoleCommand() *cobra.Command {
	return &cobra.Command{
		Use: "console SERVER", Short: "The serial console of a server, as it goes on", Args: args(1, "one SERVER"), Example: "  ingot lab console r1u1",
		RunE: func(cmd *cobra.Command, given []string) error {
			err := lab.Console(cmd.Context(), a.labName, given[0], a.stdout)
			if cmd.Context().Err() != nil {
				return nil // Ctrl-C is how one stops to look
			}
			return err
		},
	}
}

func (a *app) labPcapCommand() *cobra.Command {
	var path string
	c := &cobra.Command{
		Use: "pcap PORT", Short: "The Ethernet frames of a port of the switches, as a pcap file", Args: args(1, "one PORT"),
		Long:    "PORT is a server (its NIC), bmc-SERVER, prov0 (the boot server's side) or mgmt0\n(control's side of the BMCs' network). The capture goes on until Ctrl-C.",
		Example: "  ingot lab pcap r1u1 -w r1u1.pcap\n  ingot lab pcap r1u1 | tcpdump -n -r - port 67",
		RunE: func(cmd *cobra.Command, given []string) (err error) {
			out := a.stdout
			if path != "" {
				f, err := os.Create(path)
				if err != nil {
					return fmt.Errorf("write the capture: %w", err)
				}
				defer func() { err = errors.Join(err, f.Close()) }()
				out = f
			} else if f, ok := a.stdout.(*os.File); ok && isTerminal(f) {
				return usagef("a capture is no text: name a file with -w, or lead it to tcpdump -n -r -")
			}
			err = lab.Capture(cmd.Context(), a.labName, given[0], out)
			if cmd.Context().Err() != nil {
				return nil
			}
			return err
		},
	}
	c.Flags().StringVarP(&path, "write", "w", "", "file to write (default standard output)")
	return c
}

// labCableCommand pulls or plugs a server's cable.
func (a *app) labCableCommand(verb string, cut bool) *cobra.Command {
	short := map[bool]string{true: "Pull the cable of a server's NIC", false: "Plug the cable of a server's NIC in again"}[cut]
	return &cobra.Command{Use: verb + " SERVER", Short: short, Args: args(1, "one SERVER"), Example: "  ingot lab " + verb + " r1u1",
		RunE: func(cmd *cobra.Command, given []string) error {
			ctx, cancel := a.limited(cmd.Context(), quick)
			defer cancel()
			return lab.Cut(ctx, a.labName, given[0], cut)
		}}
}

// labBusCommand plays the loss of a server of a lab's cluster.
func (a *app) labBusCommand() *cobra.Command {
	one := func(verb, short string, kill bool) *cobra.Command {
		return &cobra.Command{Use: verb + " SERVER", Short: short, Example: "  ingot lab bus " + verb + " n2", Args: args(1, "the name of a server: n1, n2 or n3"),
			RunE: func(cmd *cobra.Command, given []string) error {
				ctx, cancel := a.limited(cmd.Context(), quick)
				defer cancel()
				return lab.SwitchBus(ctx, a.labName, given[0], kill)
			}}
	}
	return group(&cobra.Command{Use: "bus", Short: "Kill and start servers of the lab's bus (ingot lab up --bus cluster)"},
		one("kill", "Kill a server of the bus, as a power cut does", true), one("start", "Start it again", false))
}

// labServeCommand plays the loss of the machine that ingot serve runs on.
func (a *app) labServeCommand() *cobra.Command {
	one := func(verb, short string, kill bool) *cobra.Command {
		return &cobra.Command{Use: verb, Short: short, Example: "  ingot lab serve " + verb, Args: args(0, ""),
			RunE: func(cmd *cobra.Command, _ []string) error {
				ctx, cancel := a.limited(cmd.Context(), patient)
				defer cancel()
				return lab.SwitchServe(ctx, a.labName, kill)
			}}
	}
	return group(&cobra.Command{Use: "serve", Short: "Kill and start the lab's ingot serve"},
		one("kill", "Kill it, as a power cut does: bus, control and boot server are gone", true),
		one("start", "Start it again over the data that it left", false))
}

// labMainsCommand plays a power cut.
func (a *app) labMainsCommand() *cobra.Command {
	one := func(verb, short string, cut bool) *cobra.Command {
		return &cobra.Command{Use: verb + " SERVER", Short: short, Example: "  ingot lab mains " + verb + " r1u1", Args: args(1, "one SERVER"),
			RunE: func(cmd *cobra.Command, given []string) error {
				ctx, cancel := a.limited(cmd.Context(), quick)
				defer cancel()
				return lab.SwitchMains(ctx, a.labName, given[0], cut)
			}}
	}
	return group(&cobra.Command{Use: "mains", Short: "Cut the power of a server, and give it back"},
		one("cut", "Take the power away in the middle of what it does; nobody is told", true),
		one("restore", "Give the power back: it starts by itself", false))
}

func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}
