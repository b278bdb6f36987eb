package redfish

import "testing"

// TestQuirks has a BMC for every row of the table, and one beside it that the
// row is not about.
func TestQuirks(t *testing.T) {
	const features = `"ProtocolFeaturesSupported":{"ExpandQuery":{"ExpandAll":true,"NoLinks":true}}`
	rows := []struct {
		name          string
		root, manager string
		want          quirks
	}{
		{"iLO 4", `{"Oem":{"Hp":{"Manager":[{"ManagerType":"iLO 4","ManagerFirmwareVersion":"2.70"}]}}}`, `{}`, quirks{window: 2}},
		{"iLO 5", `{"Vendor":"HPE","Oem":{"Hpe":{"Manager":[{"ManagerType":"iLO 5","ManagerFirmwareVersion":"2.96"}]}},` + features + `}`, `{}`, quirks{window: defaultWindow, expand: "?$expand=."}},
		{"iLO 5, too old", `{"Oem":{"Hpe":{"Manager":[{"ManagerType":"iLO 5","ManagerFirmwareVersion":"1.30"}]}},` + features + `}`, `{}`, quirks{window: defaultWindow}},
		{"iLO 5 that has no $expand", `{"Vendor":"HPE","Oem":{"Hpe":{"Manager":[{"ManagerType":"iLO 5","ManagerFirmwareVersion":"2.96"}]}}}`, `{}`, quirks{window: defaultWindow}},
		{"iLO 6", `{"Vendor":"HPE",` + features + `}`, `{"Model":"iLO 6","FirmwareVersion":"iLO 6 v1.55"}`, quirks{window: defaultWindow, expand: "?$expand=."}},
		{"iDRAC 8", `{"Oem":{"Dell":{}}}`, `{"FirmwareVersion":"2.83.83.83"}`, quirks{window: 2}},
		{"iDRAC 9", `{"Vendor":"Dell",` + features + `}`, `{"FirmwareVersion":"6.10.30.00"}`, quirks{window: defaultWindow, expand: "?$expand=*($levels=1)"}},
		{"iDRAC 9, older", `{"Vendor":"Dell",` + features + `}`, `{"FirmwareVersion":"4.20.20.20"}`, quirks{window: defaultWindow}},
		{"iDRAC of unknown firmware", `{"Vendor":"Dell",` + features + `}`, `{}`, quirks{window: defaultWindow}},
		{"Supermicro X10", `{"Vendor":"Supermicro"}`, `{"Model":"ASPEED","FirmwareVersion":"4.0"}`, quirks{window: 4}},
		{"Supermicro, newer", `{"Vendor":"Supermicro"}`, `{"Model":"X13","FirmwareVersion":"01.03.10"}`, quirks{window: defaultWindow}},
		{"AMI", `{"Vendor":"AMI","Name":"AMI",` + features + `}`, `{}`, quirks{window: 4}},
		{"Fujitsu", `{"Vendor":"FUJITSU"}`, `{}`, quirks{window: 4}},
		{"Fujitsu, by its Oem", `{"Oem":{"ts_fujitsu":{}}}`, `{}`, quirks{window: 4}},
		{"Cisco", `{"Vendor":"Cisco Systems Inc."}`, `{}`, quirks{window: 4}},
		{"OpenBMC, old", `{"Vendor":"OpenBMC"}`, `{"FirmwareVersion":"2.8.0-dev"}`, quirks{window: defaultWindow, noETag: true}},
		{"OpenBMC", `{"Vendor":"OpenBMC"}`, `{"FirmwareVersion":"2.14.0"}`, quirks{window: defaultWindow}},
		{"Lenovo", `{"Vendor":"Lenovo",` + features + `}`, `{"FirmwareVersion":"TGBT20E 1.40 2021-05-17"}`, quirks{window: defaultWindow}},
		{"nobody", `{}`, `{}`, quirks{window: defaultWindow}},
	}
	used := map[int]bool{}
	for _, c := range rows {
		root, manager := parse(t, c.root), parse(t, c.manager)
		if got := quirksOf(root, manager); got != c.want {
			t.Errorf("%s: quirksOf = %+v; want %+v", c.name, got, c.want)
		}
		for i, r := range quirkTable {
			used[i] = used[i] || r.of(nameOf(root, manager))
		}
	}
	for i, r := range quirkTable {
		if !used[i] {
			t.Errorf("row %d (%s %s) has no test", i, r.vendor, r.model)
		}
		if r.why == "" {
			t.Errorf("row %d (%s %s) has no reason", i, r.vendor, r.model)
		}
	}
}

func parse(t *testing.T, s string) node {
	t.Helper()
	n, err := decode([]byte(s))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestVersions(t *testing.T) {
	for s, want := range map[string]string{"iLO 5 v2.96": "2.96", "TGBT20E 1.40 2021-05-17": "1.40", "6.10.30.00": "6.10.30.00", "": "", "v7": "7", "none": ""} {
		if got := version(s); got != want {
			t.Errorf("version(%q) = %q; want %q", s, got, want)
		}
	}
	for _, c := range []struct {
		a, b string
		want int
	}{{"2.9", "2.14", -1}, {"4.40", "4.40.0.0", 0}, {"10", "9.99", 1}, {"", "0", 0}} {
		if got := compareVersions(c.a, c.b); got != c.want {
			t.Errorf("compareVersions(%q, %q) = %d; want %d", c.a, c.b, got, c.want)
		}
	}
}
