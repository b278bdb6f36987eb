package redfish

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ingot-metal/ingot/hardware"
	"golang.org/x/sync/errgroup"
)

// maxMembers bounds one collection.
const maxMembers = 512

var from = hardware.Sources{Source}

// reader goes through one server's resources.
type reader struct {
	*session
	inv      hardware.Inventory
	readings hardware.Readings
}

// Read is what the BMC says of its server. Resources that are missing or
// broken are findings; the rest is there. With [ErrDenied], or when the time
// is over, what was read until then comes with the error.
func Read(ctx context.Context, o Options) (hardware.Inventory, hardware.Readings, Stats, error) {
	begin := time.Now()
	s, err := open(ctx, o)
	if err != nil {
		return hardware.Inventory{}, hardware.Readings{}, Stats{Took: time.Since(begin)}, err
	}
	defer s.close()
	r := &reader{session: s, readings: hardware.Readings{Schema: hardware.ReadingsSchema}}
	err = r.all()
	r.inv.Normalize()
	return r.inv, r.readings, s.stats(begin), err
}

func (r *reader) all() error {
	system, path, err := r.system()
	if err != nil {
		return err
	}
	systemFacts(system, &r.inv, &r.readings)
	chassis := r.branch("chassis", firstLink(system.list("Links", "Chassis"), r.firstMember("Chassis")))
	chassisFacts(chassis, &r.inv)
	thermalFacts(r.branch("thermal", chassis.link("Thermal")), &r.readings)
	r.manager(firstLink(system.list("Links", "ManagedBy"), r.firstMember("Managers")))
	if sb := r.branch("secure boot", system.link("SecureBoot")); sb != nil {
		secureBootFacts(sb, &r.inv)
	}
	for _, m := range r.members("dimms", system.link("Memory")) {
		dimmFacts(m, &r.inv)
	}
	r.cpus(system)
	r.drives(system, chassis)
	r.nics(system, chassis)
	if r.guard.denied.Load() {
		return fmt.Errorf("read %s: %w", path, ErrDenied)
	}
	if err := r.ctx.Err(); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	return nil
}

// system is the one that was asked for, or the first.
func (s *session) system() (node, string, error) {
	collection, err := s.get(firstNonEmpty(s.root.link("Systems"), rootPath+"Systems"))
	if err != nil {
		return nil, "", err
	}
	for _, m := range collection.list("Members") {
		path := m.id()
		if path == "" {
			continue
		}
		n, err := s.get(path)
		if err != nil {
			return nil, path, err
		}
		if s.options.System == "" || n.str("Id") == s.options.System {
			return n, path, nil
		}
	}
	return nil, "", fmt.Errorf("read %sSystems: no system %q among %d", rootPath, s.options.System, len(collection.list("Members")))
}

func firstNonEmpty(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

func firstLink(links []node, otherwise func() string) string {
	for _, l := range links {
		if id := l.id(); id != "" {
			return id
		}
	}
	return otherwise()
}

// firstMember is the first of a collection of the root, for services whose
// system does not say what belongs to it.
func (r *reader) firstMember(collection string) func() string {
	return func() string {
		c := r.branch(collection, r.root.link(collection))
		return firstLink(c.list("Members"), func() string { return "" })
	}
}

// branch reads what a link leads to. A link that leads nowhere is a finding; no
// link is nothing, since nothing was promised.
func (r *reader) branch(part, path string) node {
	if path == "" {
		return nil
	}
	n, err := r.get(path)
	if err != nil {
		r.missing(part, err)
		return nil
	}
	return n
}

func (r *reader) missing(part string, err error) {
	if errors.Is(err, ErrDenied) || r.ctx.Err() != nil {
		return // the whole read reports that
	}
	f := hardware.Finding{Code: hardware.CodeSourceMalformed, Severity: hardware.Info, Part: part,
		Evidence: err.Error(), Source: Source, Hint: "a firmware update of the BMC may mend it"}
	if statusOf(err) == 404 {
		f.Code = hardware.CodeResourceMissing
	}
	r.inv.Findings = append(r.inv.Findings, f)
}

// members reads a collection and all that it holds, a few at a time, in its
// order.
func (r *reader) members(part, path string) []node {
	return r.follow(part, r.branch(part, path).list("Members"))
}

func (r *reader) follow(part string, links []node) []node {
	if len(links) > maxMembers {
		r.missing(part, fmt.Errorf("%d members, of which the first %d are read", len(links), maxMembers))
		links = links[:maxMembers]
	}
	out, errs := make([]node, len(links)), make([]error, len(links))
	var g errgroup.Group
	g.SetLimit(r.options.Concurrency)
	for i, l := range links {
		if len(l) > 1 && l["@odata.type"] != nil {
			out[i] = l // expanded in place
			continue
		}
		if path := l.id(); path != "" {
			g.Go(func() error {
				out[i], errs[i] = r.get(path)
				return nil // one that fails is a finding and stops nobody
			})
		}
	}
	_ = g.Wait() // always nil, see above
	var found []node
	for i := range out {
		if errs[i] != nil {
			r.missing(part, errs[i])
		}
		if out[i] != nil {
			found = append(found, out[i])
		}
	}
	return found
}

func (r *reader) manager(path string) {
	m := r.branch("bmc", path)
	managerFacts(m, &r.inv)
	for _, n := range r.members("bmc nics", m.link("EthernetInterfaces")) {
		managerPortFacts(n, &r.inv)
	}
}

// cpus are the processors that are CPUs; where they cannot be read the
// summary says at least how many there are.
func (r *reader) cpus(system node) {
	for _, p := range r.members("cpus", system.link("Processors")) {
		cpuFacts(p, &r.inv)
	}
	if len(r.inv.CPUs) == 0 {
		cpuSummary(system, &r.inv)
	}
}

func (r *reader) drives(system, chassis node) {
	var links []node
	for _, s := range r.members("storage", system.link("Storage")) {
		links = append(links, s.list("Drives")...)
	}
	links = append(links, chassis.list("Links", "Drives")...)
	seen := map[string]bool{}
	var once []node
	for _, l := range links {
		if id := l.id(); id != "" && !seen[id] {
			seen[id] = true
			once = append(once, l)
		}
	}
	for _, d := range r.follow("drives", once) {
		driveFacts(d, &r.inv)
	}
	if len(r.inv.Drives) > 0 {
		return
	}
	for _, s := range r.members("simple storage", system.link("SimpleStorage")) {
		for _, d := range s.list("Devices") {
			driveFacts(d, &r.inv)
		}
	}
}

func (r *reader) nics(system, chassis node) {
	for _, n := range r.members("nics", system.link("EthernetInterfaces")) {
		nicFacts(n, &r.inv)
	}
	for _, a := range r.members("network adapters", chassis.link("NetworkAdapters")) {
		ports := firstNonEmpty(a.link("Ports"), a.link("NetworkPorts"))
		for _, p := range r.members("ports", ports) {
			portFacts(a, p, &r.inv)
		}
	}
}
