package netboot

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sync/errgroup"
)

// Server is a boot server, ready to run. Make it with New.
type Server struct {
	cfg     Config
	ifi     *net.Interface
	address netip.Addr
	dhcp    *dhcpHandler
	http    *httpHandler
	loaders map[string][]byte // by TFTP name
	reports *reporter
	ready   chan struct{}
}

// New checks the configuration and reads every file into memory. It opens no
// socket and sends no packet.
func New(cfg Config) (*Server, error) {
	s, err := build(cfg.withDefaults())
	if err != nil {
		return nil, fmt.Errorf("netboot: %w", err)
	}
	return s, nil
}

func build(cfg Config) (*Server, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	ifi, prefix, err := interfaceAddress(cfg.Interface, cfg.Address)
	if err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, ifi: ifi, address: prefix.Addr(), ready: make(chan struct{}),
		reports: newReporter(cfg.Observe, cfg.Logger)}
	if s.dhcp, err = newDHCPHandler(cfg, prefix, s.reports.emit); err != nil {
		return nil, err
	}
	files, err := bootFiles(cfg, netip.AddrPortFrom(s.address, cfg.HTTPPort))
	if err != nil {
		return nil, err
	}
	s.http = newHTTPHandler(files, cfg.Mounts, s.reports.emit, s.dhcp.holder)
	s.loaders = map[string][]byte{}
	for _, p := range []string{PathUndionly, PathSNPOnly, PathAutoexec} {
		s.loaders[p[1:]] = files[p].body
	}
	return s, nil
}

func newDHCPHandler(cfg Config, prefix netip.Prefix, emit func(Event)) (*dhcpHandler, error) {
	h := &dhcpHandler{server: prefix.Addr(), leaseFor: cfg.Lease, known: cfg.Known, emit: emit, now: time.Now,
		httpBase: "http://" + netip.AddrPortFrom(prefix.Addr(), cfg.HTTPPort).String()}
	for _, a := range cfg.DNS {
		h.dns = append(h.dns, a.AsSlice())
	}
	segmentFor := func(sub Subnet) (*segment, error) {
		sub, err := subnetOf(sub)
		if err != nil {
			return nil, err
		}
		if sub.Router.IsValid() && !sub.Prefix.Contains(sub.Router) {
			return nil, fmt.Errorf("router %v is not in %v", sub.Router, sub.Prefix)
		}
		t := newTable(sub.Pool, h.now, prefix.Addr(), sub.Router)
		t.restore(cfg.Leases)
		return &segment{sub, t}, nil
	}
	var err error
	if h.local, err = segmentFor(Subnet{Prefix: prefix, Pool: cfg.Pool, Router: cfg.Router}); err != nil {
		return nil, err
	}
	for _, sub := range cfg.Relayed {
		seg, err := segmentFor(sub)
		if err != nil {
			return nil, err
		}
		if seg.Prefix.Overlaps(prefix) {
			return nil, fmt.Errorf("relayed subnet %v overlaps %v", seg.Prefix, prefix)
		}
		h.relayed = append(h.relayed, seg)
	}
	return h, nil
}

// bootFiles loads and renders all that is served, by HTTP path.
func bootFiles(cfg Config, at netip.AddrPort) (map[string]*content, error) {
	files := map[string]*content{}
	for _, f := range []struct {
		path, mime string
		file       File
		maxBytes   int64
	}{
		{PathUndionly, "application/octet-stream", cfg.UndionlyKPXE, maxLoader},
		{PathSNPOnly, "application/efi", cfg.SNPOnlyEFI, maxLoader},
		{PathKernel, "application/octet-stream", cfg.Kernel, maxKernel},
		{PathInitramfs, "application/octet-stream", cfg.Initramfs, maxInitramfs},
		{PathTrust, "application/octet-stream", cfg.Trust, maxTrust},
	} {
		b, err := f.file.load(baseName(f.path), f.maxBytes)
		if err != nil {
			return nil, err
		}
		if f.path == PathKernel {
			if err := checkKernel(b); err != nil {
				return nil, fmt.Errorf("load %s: %w (%s)", baseName(f.path), err, cmp.Or(f.file.Path, "given as bytes"))
			}
		}
		files[f.path] = newContent(f.mime, b)
	}
	script := Script{Server: at, Kernel: PathKernel, Initrds: []string{PathInitramfs, PathTrust}, Cmdline: cfg.Cmdline}
	for path, render := range map[string]func() ([]byte, error){PathScript: script.Text, PathAutoexec: script.AutoexecText} {
		text, err := render()
		if err != nil {
			return nil, err
		}
		files[path] = newContent("text/plain; charset=utf-8", text)
	}
	return files, nil
}

// Address is where DHCP tells machines to come.
func (s *Server) Address() netip.Addr { return s.address }

// Leases lists who holds which address, for Config.Leases of the next run.
func (s *Server) Leases() []Lease {
	out := s.dhcp.local.leases()
	for _, seg := range s.dhcp.relayed {
		out = append(out, seg.leases()...)
	}
	return out
}

// Ready is closed once every listener is open.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// Run serves until ctx ends, then closes everything and returns nil. It may be
// called once. An error says which listener could not be had, and by whose
// fault where that can be seen.
func (s *Server) Run(ctx context.Context) error {
	if err := s.run(ctx); err != nil {
		return fmt.Errorf("netboot on %s: %w", s.cfg.Interface, err)
	}
	return nil
}

func (s *Server) run(ctx context.Context) error {
	if s.cfg.RivalWait > 0 {
		if err := lookForRival(ctx, s.ifi.Name, s.cfg.RivalWait); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
	}
	socks, err := s.listen()
	if err != nil {
		return err
	}
	stopReports := make(chan struct{})
	reported := make(chan struct{})
	go func() { defer close(reported); s.reports.run(stopReports) }()
	defer func() { close(stopReports); <-reported }()

	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.serveDHCP(ctx, socks.dhcp, portServer) })
	g.Go(func() error { return s.serveDHCP(ctx, socks.pxe, portPXE) })
	g.Go(func() error { return s.serveTFTP(ctx, socks.tftp) })
	g.Go(func() error { return s.serveHTTP(ctx, socks.http) })
	if !s.cfg.NoRouterAdvertisement {
		g.Go(func() error { return s.serveRouterAdvertisements(ctx) })
	}
	s.cfg.Logger.Info("netboot serves", "interface", s.ifi.Name, "address", s.address,
		"pool", s.dhcp.local.pool.String(), "http", s.dhcp.httpBase)
	close(s.ready)
	return g.Wait()
}
