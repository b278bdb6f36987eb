package redfish

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// quirks are what a BMC must be handled by.
type quirks struct {
	window int // the most requests in flight
	// expand is the query that gives a collection with its members, where the
	// BMC is trusted to leave nothing out of them.
	expand string
	// noETag says that its ETags say nothing about its resources.
	noETag bool
}

// bmcName is what a BMC says it is, in lower case: the vendor, the product or
// model, and the firmware's version.
type bmcName struct{ vendor, model, firmware string }

// quirkRow is one habit of some BMCs: of a vendor, of models that contain a
// text, and of firmware versions from one up to before another; empty is any.
type quirkRow struct {
	vendor, model string
	from, before  string
	why           string
	set           func(*quirks)
}

func windowOf(n int) func(*quirks)    { return func(q *quirks) { q.window = min(q.window, n) } }
func expandBy(s string) func(*quirks) { return func(q *quirks) { q.expand = s } }

// quirkTable has a test for every row.
var quirkTable = []quirkRow{
	{vendor: "hpe", model: "ilo 4", why: "one slow thread serves everything", set: windowOf(2)},
	{vendor: "hpe", model: "ilo 5", from: "1.40", why: "$expand=. gives members whole", set: expandBy("?$expand=.")},
	{vendor: "hpe", model: "ilo 6", why: "$expand=. gives members whole", set: expandBy("?$expand=.")},
	{vendor: "dell", before: "3.0", why: "iDRAC 8 and older answer 503 to a burst", set: windowOf(2)},
	{vendor: "dell", from: "4.40", why: "$expand gives members whole, and each request costs this BMC half a second", set: expandBy("?$expand=*($levels=1)")},
	{vendor: "supermicro", model: "aspeed", why: "X10 and older freeze under a burst", set: windowOf(4)},
	{vendor: "ami", why: "freezes under a burst; $expand drops required properties", set: windowOf(4)},
	{vendor: "fujitsu", why: "iRMC S4 and S5 answer 503 to a burst", set: windowOf(4)},
	{vendor: "cisco", why: "CIMC serves few connections", set: windowOf(4)},
	{vendor: "openbmc", before: "2.9", why: "bmcweb of that time gave the same ETag to changed resources", set: func(q *quirks) { q.noETag = true }},
}

// quirksOf are the quirks of a BMC by its service root, and by its manager
// once that was read.
func quirksOf(root, manager node) quirks {
	name := nameOf(root, manager)
	q := quirks{window: defaultWindow}
	for _, r := range quirkTable {
		if r.of(name) {
			r.set(&q)
		}
	}
	if len(root.obj("ProtocolFeaturesSupported", "ExpandQuery")) == 0 {
		q.expand = ""
	}
	return q
}

// undecided reports whether rows of the table hang on what the root does not
// say: a model, or a version.
func undecided(root node) bool {
	name := nameOf(root, nil)
	return slices.ContainsFunc(quirkTable, func(r quirkRow) bool {
		return r.vendor == name.vendor && (r.model != "" && strings.TrimSpace(name.model) == "" || (r.from != "" || r.before != "") && name.firmware == "")
	})
}

// of reports whether a row is about this BMC. A row with versions needs one.
func (r quirkRow) of(b bmcName) bool {
	if b.vendor != r.vendor || !strings.Contains(b.model, r.model) {
		return false
	}
	if (r.from != "" || r.before != "") && b.firmware == "" {
		return false
	}
	return (r.from == "" || compareVersions(b.firmware, r.from) >= 0) && (r.before == "" || compareVersions(b.firmware, r.before) < 0)
}

// nameOf puts together what root and manager say. HPE's root names the
// manager's type and firmware too, others only the vendor.
func nameOf(root, manager node) bmcName {
	ilo := root.obj("Oem", "Hpe")
	if ilo == nil {
		ilo = root.obj("Oem", "Hp")
	}
	var vendor string
	for _, v := range []string{root.str("Vendor"), manager.str("Manufacturer"), oemVendor(root), oemVendor(manager), root.str("Name")} {
		if vendor = knownVendor(v); vendor != "" {
			break
		}
	}
	model := manager.str("Model") + " " + root.str("Product")
	firmware := manager.str("FirmwareVersion")
	for _, m := range ilo.list("Manager") {
		model, firmware = model+" "+m.str("ManagerType"), cmp.Or(firmware, m.str("ManagerFirmwareVersion"))
	}
	return bmcName{vendor, strings.ToLower(model), version(firmware)}
}

// oemVendor is the first of the keys under Oem that names a vendor.
func oemVendor(n node) string {
	for k := range n.obj("Oem") {
		if knownVendor(k) != "" {
			return k
		}
	}
	return ""
}

func knownVendor(s string) string {
	s = strings.ToLower(s)
	for _, v := range []string{"hpe", "dell", "lenovo", "supermicro", "openbmc", "nvidia", "fujitsu", "huawei", "inspur", "cisco", "ami"} {
		if strings.HasPrefix(s, v) {
			return v
		}
	}
	if s == "hp" || strings.HasPrefix(s, "hewlett") {
		return "hpe"
	}
	if strings.HasPrefix(s, "ts_fujitsu") {
		return "fujitsu"
	}
	return ""
}

// version is the first run of digits and dots that has both, else of digits:
// 2.96 of "iLO 5 v2.96".
func version(s string) string {
	runs := strings.FieldsFunc(s, func(r rune) bool { return r != '.' && (r < '0' || r > '9') })
	for _, r := range runs {
		if strings.Contains(strings.Trim(r, "."), ".") {
			return strings.Trim(r, ".")
		}
	}
	if len(runs) > 0 {
		return strings.Trim(runs[0], ".")
	}
	return ""
}

// compareVersions compares numbers between dots; what is missing is zero.
func compareVersions(a, b string) int {
	for a != "" || b != "" {
		var x, y string
		x, a, _ = strings.Cut(a, ".")
		y, b, _ = strings.Cut(b, ".")
		m, _ := strconv.Atoi(x) // nothing is zero
		n, _ := strconv.Atoi(y)
		if c := cmp.Compare(m, n); c != 0 {
			return c
		}
	}
	return 0
}
