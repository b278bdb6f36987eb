package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ingot-metal/ingot/fleet"
	"github.com/ingot-metal/ingot/fleet/operator"
	"github.com/ingot-metal/ingot/fleet/render"
	"github.com/ingot-metal/ingot/images"
	"github.com/ingot-metal/ingot/images/sign"
	"github.com/ingot-metal/ingot/images/stack"
	"github.com/ingot-metal/ingot/images/store"
)

const stackLong = `A stack is what a server is turned into: kernel and initrds, a hypervisor's root,
virtual machines, containers and services, named by digest in one signed
manifest. Stacks live in an OCI layout (--stacks), from where "ingot serve"
gives their bytes to servers.`

func (a *app) stackCommand() *cobra.Command {
	return group(&cobra.Command{Use: "stack", Short: "Build, sign and look at stacks", Long: stackLong},
		a.stackBuildCommand(), a.stackSignCommand(), a.stackListCommand(), a.stackShowCommand())
}

// readStacks reads the stacks of an OCI layout that is there.
func readStacks(layout string) ([]fleet.StackEntry, error) {
	s, err := store.Open(layout)
	if err != nil {
		return nil, fmt.Errorf("read stacks: %w (run: make stack, or name another with --stacks)", err)
	}
	all, err := stack.List(s)
	if err != nil {
		return nil, fmt.Errorf("read the stacks of %s: %w (build them anew: make stack)", layout, err)
	}
	var out []fleet.StackEntry
	for _, one := range all {
		out = append(out, fleet.StackEntry{Ref: one.Ref, Digest: images.DigestOf(one.Stack.Payload), Stack: one.Stack, Delegations: one.Delegations})
	}
	return out, nil
}

// summary is a stack as list and show print it.
type summary struct {
	Ref       string           `json:"ref"`
	Digest    images.Digest    `json:"digest"`
	SizeBytes int64            `json:"size_bytes"`
	Manifest  *images.Manifest `json:"manifest,omitempty"`
	// Signed says whose signature it carries, or what is wrong with it.
	Signed string `json:"signed"`
}

func summarize(e fleet.StackEntry, roots *sign.Roots, now time.Time) (summary, error) {
	m, err := images.ParseManifest(e.Stack.Payload)
	if err != nil {
		return summary{}, fmt.Errorf("stack %s: %w", e.Ref, err)
	}
	s := summary{Ref: e.Ref, Digest: images.DigestOf(e.Stack.Payload), Manifest: &m, Signed: "not checked: no keys named"}
	for _, a := range m.Artifacts() {
		s.SizeBytes += a.SizeBytes
	}
	if roots != nil {
		s.Signed = "by an operator of these keys"
		if _, _, err := roots.OpenManifest(e.Delegations, e.Stack, now); err != nil {
			s.Signed = "NO: " + err.Error()
		}
	}
	return s, nil
}

// roots are those of a key directory, or nil where there is none.
func keyRoots(dir string) (*sign.Roots, error) {
	k, err := sign.Load(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	r := k.Roots()
	return &r, nil
}

// stackFlags are shared by the commands that read a layout.
type stackFlags struct {
	stacks, keys string
	fleet        bool
}

func (f *stackFlags) add(c *cobra.Command) {
	c.Flags().StringVar(&f.stacks, "stacks", "build/stacks", "OCI layout")
	c.Flags().StringVar(&f.keys, "keys", "build/keys", "directory of the keys that signatures are checked against")
	c.Flags().BoolVar(&f.fleet, "fleet", false, "the stacks that the fleet holds, instead of a layout's")
}

func (a *app) stackEntries(ctx context.Context, f stackFlags) ([]fleet.StackEntry, *sign.Roots, error) {
	if !f.fleet {
		all, err := readStacks(f.stacks)
		if err != nil {
			return nil, nil, err
		}
		roots, err := keyRoots(f.keys)
		return all, roots, err
	}
	ctx, cancel := a.limited(ctx, quick)
	defer cancel()
	var all []fleet.StackEntry
	var roots sign.Roots
	err := a.withClient(ctx, func(c *operator.Client) (err error) {
		roots = c.Roots()
		all, err = c.Stacks(ctx)
		return err
	})
	return all, &roots, err
}

func (a *app) stackListCommand() *cobra.Command {
	var f stackFlags
	c := &cobra.Command{
		Use: "list", Short: "The stacks of a layout, or of the fleet", Args: args(0, ""),
		Example: "  ingot stack list\n  ingot stack list --fleet -o json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			all, roots, err := a.stackEntries(cmd.Context(), f)
			if err != nil {
				return err
			}
			out := []summary{}
			var rows [][]string
			for _, e := range all {
				s, err := summarize(e, roots, a.now())
				if err != nil {
					return err
				}
				rows = append(rows, []string{s.Ref, s.Digest.Short(), render.Size(s.SizeBytes), s.Manifest.Arch, s.Signed})
				out = append(out, s)
			}
			return a.show(out, func(s render.Style) string {
				return s.Table([]string{"STACK", "DIGEST", "SIZE", "ARCH", "SIGNED"}, rows)
			})
		},
	}
	f.add(c)
	return c
}

func (a *app) stackShowCommand() *cobra.Command {
	var f stackFlags
	c := &cobra.Command{
		Use: "show STACK", Short: "What a stack is made of, layer by layer", Args: args(1, "one STACK"),
		Example: "  ingot stack show hello\n  ingot stack show hello -o yaml",
		RunE: func(cmd *cobra.Command, given []string) error {
			all, roots, err := a.stackEntries(cmd.Context(), f)
			if err != nil {
				return err
			}
			e, err := pickStack(all, given[0])
			if err != nil {
				return err
			}
			out, err := summarize(e, roots, a.now())
			if err != nil {
				return err
			}
			return a.show(out, func(s render.Style) string { return stackPage(s, out) })
		},
	}
	f.add(c)
	return c
}

func stackPage(s render.Style, out summary) string {
	m := out.Manifest
	var b strings.Builder
	fmt.Fprintf(&b, "%s  %s, %s\n  digest   %s\n  signed   %s\n  memory   %s at least\n  deadline %s after the jump\n  cmdline  %s\n",
		out.Ref, m.Arch, render.Size(out.SizeBytes), out.Digest, out.Signed, render.Size(m.MemoryBytes), time.Duration(m.Deadline), m.Boot.Cmdline)
	var rows [][]string
	add := func(layer string, a images.Artifact) {
		rows = append(rows, []string{layer, a.Name, render.Size(a.SizeBytes), a.Digest.Short()})
	}
	add("host kernel", m.Boot.Kernel)
	for _, i := range m.Boot.Initrds {
		add("host initrd", i)
	}
	if m.Boot.Root != nil {
		add("host root", *m.Boot.Root)
	}
	for _, vm := range m.VMs {
		add("vm "+vm.Name+" kernel", vm.Kernel)
		add("vm "+vm.Name+" initrd", vm.Initrd)
		add("vm "+vm.Name+" root", vm.Root)
	}
	for _, c := range m.Containers {
		add("container "+c.Name+" in "+c.VM, c.Archive)
	}
	for _, v := range m.Services {
		rows = append(rows, []string{"service " + v.Name, fmt.Sprintf("port %d, healthy when %s answers", v.Port, v.HealthPath), "", ""})
	}
	for k, p := range m.Params {
		need := "optional"
		if p.Required {
			need = "required"
		}
		rows = append(rows, []string{"param " + k, p.Type + ", " + need, "", ""})
	}
	b.WriteString("\n" + s.Table([]string{"LAYER", "FILE", "SIZE", "DIGEST"}, rows))
	return b.String()
}

func (a *app) stackBuildCommand() *cobra.Command {
	var o stack.Options
	var keys string
	var lab bool
	c := &cobra.Command{
		Use: "build", Short: "Build and sign the stack that Ingot ships", Args: args(0, ""),
		Long: `Builds a hypervisor's root (Debian, systemd, KVM, QEMU, the resident agent), a
virtual machine's root (containerd, runc) and the image of the service "hello",
and puts them with a signed manifest into an OCI layout. Roots are kept in the
cache: the second build takes seconds.`,
		Example: "  ingot stack build --lab\n  ingot stack build --keys keys --out stacks --version 2",
		RunE: func(cmd *cobra.Command, _ []string) error {
			k, err := sign.OpenOrCreate(keys, lab, a.now())
			if err != nil {
				return err
			}
			o.Keys, o.SecondCache = k, a.userCache()
			o.Log = slog.New(slog.NewTextHandler(a.stderr, nil))
			start := time.Now()
			res, err := stack.Build(cmd.Context(), o)
			if err != nil {
				return err
			}
			a.progress("built in %s", render.Took(time.Since(start)))
			return a.showStack(res)
		},
	}
	f := c.Flags()
	f.StringVar(&o.Tools, "tools", "build/tools", "Debian root with the kernel")
	f.StringVar(&o.Agent, "agent", "build/ingot-agent", "the agent, which becomes the resident agent")
	f.StringVar(&o.Cache, "cache", "build/cache", "directory that keeps roots between builds")
	f.StringVar(&o.Mirror, "mirror", "", "Debian mirror that roots are made from (default Debian's own)")
	f.StringVar(&o.Out, "out", "build/stacks", "OCI layout to add to")
	f.StringVar(&o.Name, "name", "hello", "name of the stack")
	f.StringVar(&o.Version, "version", "1", "version of the stack")
	f.StringVar(&keys, "keys", "build/keys", "directory of the signing keys; made when missing")
	f.BoolVar(&lab, "lab", false, "make keys that nothing outside the lab accepts")
	return c
}

// userCache outlives a clone of the repository; empty where there is no home.
func (a *app) userCache() string {
	if dir := a.env("XDG_CACHE_HOME"); dir != "" {
		return filepath.Join(dir, "ingot")
	}
	if home := a.env("HOME"); home != "" {
		return filepath.Join(home, ".cache", "ingot")
	}
	return ""
}

func (a *app) showStack(res stack.Result) error {
	s := summary{Ref: res.Manifest.Ref(), Digest: res.Digest, Manifest: &res.Manifest, Signed: "just now"}
	for _, p := range res.Manifest.Artifacts() {
		s.SizeBytes += p.SizeBytes
	}
	return a.show(s, func(st render.Style) string { return stackPage(st, s) })
}

func (a *app) stackSignCommand() *cobra.Command {
	var layout, keys string
	c := &cobra.Command{
		Use: "sign STACK", Short: "Sign a stack of a layout anew, with your keys", Args: args(1, "one STACK"),
		Long: `Checks every artifact of the stack against its digest and signs the manifest with
the operator's key of --keys. The old signature is dropped.`,
		Example: "  ingot stack sign hello --keys keys",
		RunE: func(_ *cobra.Command, given []string) error {
			k, err := sign.Load(keys)
			if err != nil {
				return err
			}
			all, err := readStacks(layout)
			if err != nil {
				return err
			}
			e, err := pickStack(all, given[0])
			if err != nil {
				return err
			}
			m, err := images.ParseManifest(e.Stack.Payload)
			if err != nil {
				return err
			}
			s, err := store.Open(layout)
			if err != nil {
				return err
			}
			res, err := stack.Add(s, m, k)
			if err != nil {
				return err
			}
			return a.showStack(res)
		},
	}
	c.Flags().StringVar(&layout, "stacks", "build/stacks", "OCI layout")
	c.Flags().StringVar(&keys, "keys", "build/keys", "directory of the signing keys")
	return c
}
