package storage

import (
	"errors"
	"io/fs"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/ingot-metal/ingot/hardware"
	"github.com/ingot-metal/ingot/hardware/storage/nvme"
	"github.com/ingot-metal/ingot/hardware/storage/passthru"
	"github.com/ingot-metal/ingot/hardware/storage/scsi"
	"github.com/ingot-metal/ingot/hardware/sysfs"
)

const nvmeClass = "sys/class/nvme"

// An NVMe controller among the entries of its subsystem.
var controllerName = regexp.MustCompile(`^nvme[0-9]+$`)

// nvmeUnits groups namespaces by what they hang on: the controller or, under
// native multipath, the subsystem. A controller without a namespace is a drive
// too.
func nvmeUnits(root sysfs.Root) []unit {
	var groups []string
	names, seen := map[string][]string{}, map[string]bool{}
	for _, name := range root.Names(block) {
		if !strings.HasPrefix(name, "nvme") || !drives.MatchString(name) || root.Text(block, name, "hidden") == "1" {
			continue
		}
		on := root.Inner(block, name, "device")
		if on == "" {
			on = name
		}
		if names[on] == nil {
			groups = append(groups, on)
		}
		names[on] = append(names[on], name)
		for _, c := range controllersOf(root, name) {
			seen[c] = true
		}
	}
	var out []unit
	for _, on := range groups {
		slices.SortFunc(names[on], func(a, b string) int { return namespaceID(root, a) - namespaceID(root, b) })
		out = append(out, unit{names: names[on], facts: func(root sysfs.Root, r *result) { nvmeFacts(root, names[on], r) }, ask: askNVMe})
	}
	for _, c := range root.Names(nvmeClass) {
		if controllerName.MatchString(c) && !seen[c] {
			out = append(out, unit{names: []string{c}, facts: emptyNVMe, ask: askNVMe})
		}
	}
	return out
}

// controllersOf are the controllers that lead to a namespace.
func controllersOf(root sysfs.Root, name string) []string {
	on := root.Link(block, name, "device")
	if controllerName.MatchString(on) {
		return []string{on}
	}
	var out []string
	for _, c := range root.Names(block, name, "device") {
		if controllerName.MatchString(c) {
			out = append(out, c)
		}
	}
	return out
}

func namespaceID(root sysfs.Root, name string) int {
	if id, err := strconv.Atoi(root.Text(block, name, "nsid")); err == nil {
		return id
	}
	id, err := strconv.Atoi(name[strings.LastIndexByte(name, 'n')+1:]) // before 4.16; the same but for multipath
	if err != nil {
		return 0
	}
	return id
}

// nvmeFacts reads a drive with namespaces. Its device is the controller, or
// the subsystem, which has the same attributes.
func nvmeFacts(root sysfs.Root, names []string, r *result) {
	d := &r.drive
	blockFacts(root, d)
	d.Transport = hardware.TransportNVMe
	d.Model = hardware.Clean(root.Text(block, d.Name, "device/model"))
	d.Serial = hardware.CleanSerial(root.Text(block, d.Name, "device/serial"))
	d.Firmware = hardware.Clean(root.Text(block, d.Name, "device/firmware_rev"))
	d.SizeBytes = 0
	for _, name := range names {
		n := hardware.Namespace{ID: namespaceID(root, name), Name: name, SizeBytes: size(root, name), BlockBytes: blockBytes(root, name, "logical"),
			WWN: scsi.Unique(root.Text(block, name, "wwid"))}
		d.Namespaces = append(d.Namespaces, n)
		d.SizeBytes += n.SizeBytes
	}
	d.WWN = d.Namespaces[0].WWN
	for _, c := range controllersOf(root, d.Name) {
		if r.controller == "" {
			r.controller = c
		}
		if d.BDF == "" {
			d.BDF, _ = sysfs.BusOf(root.Real(block, d.Name, "device", c))
			d.NUMANode = numaNode(root, d.BDF)
		}
	}
}

// emptyNVMe reads a controller that shows no namespace.
func emptyNVMe(root sysfs.Root, r *result) {
	d := &r.drive
	r.controller = d.Name
	d.Transport = hardware.TransportNVMe
	d.Model = hardware.Clean(root.Text(nvmeClass, d.Name, "model"))
	d.Serial = hardware.CleanSerial(root.Text(nvmeClass, d.Name, "serial"))
	d.Firmware = hardware.Clean(root.Text(nvmeClass, d.Name, "firmware_rev"))
	d.BDF, _ = sysfs.BusOf(root.Real(nvmeClass, d.Name))
	d.NUMANode = numaNode(root, d.BDF)
}

// askNVMe asks the controller what sysfs does not know.
func askNVMe(q *questions, r *result) {
	if q.kind, q.node = "nvme", r.controller; q.node == "" {
		return
	}
	identify, err := q.identifyNVMe("identify", nvme.IdentifyBytes, 1, 0)
	if r.refused = q.refused; err != nil {
		if errors.Is(err, fs.ErrPermission) {
			r.hwmon(q.root)
		}
		return
	}
	c, err := nvme.ParseController(identify)
	if err != nil {
		r.malformed(err)
		return
	}
	d := &r.drive
	d.NVMeVersion, d.CapacityBytes = c.Version, c.CapacityBytes
	if c.CryptoErase {
		d.SelfEncrypts = hardware.Enabled
	}
	r.hidden(q)
	if b, err := q.logNVMe("smart", 0x02, nvme.SmartBytes); err == nil {
		s, err := nvme.ParseSmart(b)
		r.nvmeHealth(c, s)
		r.malformed(err)
	}
	if c.SelfTests {
		if b, err := q.logNVMe("self-test", 0x06, nvme.SelfTestBytes); err == nil {
			t, err := nvme.ParseSelfTest(b)
			r.selfTest(t.Result, t.Hours, t.Running)
			r.malformed(err)
		}
	}
	if b, err := q.logNVMe("firmware-slots", 0x03, nvme.SlotsBytes); err == nil {
		s, err := nvme.ParseSlots(b)
		r.malformed(err)
		if next := s.Pending(); next != "" {
			r.find(hardware.CodeDriveFirmware, hardware.Info, "firmware "+next+" begins with the next reset, now it is "+d.Firmware, "nothing, when the update was meant")
		}
	}
}

// hidden adds the namespaces that the kernel makes no block device of.
func (r *result) hidden(q *questions) {
	b, err := q.identifyNVMe("namespaces", nvme.ListBytes, 2, 0)
	if err != nil {
		return
	}
	ids, err := nvme.ParseList(b)
	r.malformed(err)
	for _, id := range ids[:min(len(ids), 64)] {
		if slices.ContainsFunc(r.drive.Namespaces, func(n hardware.Namespace) bool { return n.ID == id }) {
			continue
		}
		b, err := q.identifyNVMe("namespace-"+strconv.Itoa(id), nvme.NamespaceBytes, 0, uint32(id))
		if err != nil {
			continue
		}
		n, err := nvme.ParseNamespace(b)
		r.malformed(err)
		r.drive.Namespaces = append(r.drive.Namespaces, hardware.Namespace{ID: id, SizeBytes: n.SizeBytes, BlockBytes: n.BlockBytes, WWN: n.WWN})
	}
}

// identifyNVMe asks for a data structure by its CNS value (NVMe Base 2.0,
// figure 274).
func (q *questions) identifyNVMe(question string, size int, cns, namespace uint32) ([]byte, error) {
	return q.ask(question, int64(size), func(d passthru.Device) ([]byte, error) {
		return d.NVMe(passthru.Admin{Opcode: passthru.NVMeIdentify, Namespace: namespace, CDW10: cns, Bytes: size})
	})
}

// logNVMe asks for a log page of the controller, and leaves it the events that
// it has to tell (NVMe Base 2.0 5.16.1).
func (q *questions) logNVMe(question string, log uint32, size int) ([]byte, error) {
	const retain = 1 << 15
	return q.ask(question, int64(size), func(d passthru.Device) ([]byte, error) {
		return d.NVMe(passthru.Admin{Opcode: passthru.NVMeGetLogPage, Namespace: 0xffffffff, CDW10: log | retain | uint32(size/4-1)<<16, Bytes: size})
	})
}

// hwmon takes the temperature that the kernel shows everybody.
func (r *result) hwmon(root sysfs.Root) {
	dir := []string{nvmeClass, r.controller}
	for _, name := range root.Names(dir...) {
		if milli, err := strconv.Atoi(root.Text(append(dir, name, "temp1_input")...)); err == nil && strings.HasPrefix(name, "hwmon") {
			c := float64(milli) / 1000
			r.health.Celsius = &c
		}
	}
}
