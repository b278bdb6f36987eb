package lldp

import (
	"errors"
	"fmt"
	"os"

	"github.com/ingot-metal/ingot/hardware"
	"github.com/ingot-metal/ingot/hardware/ethtool"
	"github.com/ingot-metal/ingot/hardware/sysfs"
)

// agents are the drivers whose firmware keeps LLDP frames to itself, with the
// private flag that rules it.
var agents = map[string]struct {
	flag    string
	on      bool   // what the flag must be for frames to come through
	command string // debugfs, for drivers older than the flag; after its PCI address
}{
	"i40e": {"disable-fw-lldp", true, "sys/kernel/debug/i40e/%s/command"},
	"ice":  {"fw-lldp-agent", false, ""},
}

// prepare sees to it that a port's frames come through. The first process of
// an inspection switches the firmware's agent off; any other changes nothing
// and says so.
func prepare(root sysfs.Root, name string) (hardware.Finding, bool) {
	const class = "sys/class/net"
	a, ok := agents[root.Link(class, name, "device/driver")]
	if !ok || !root.Live() {
		return hardware.Finding{}, false
	}
	flags, err := ethtool.PrivateFlags(name)
	is, has := flags[a.flag]
	if err == nil && has && is == a.on {
		return hardware.Finding{}, false
	}
	f := hardware.Finding{Code: hardware.CodeLLDPByFirmware, Severity: hardware.Info, Part: "nic " + name, Source: Source,
		Evidence: "its firmware has an LLDP agent of its own, which keeps the neighbor's frames",
		Hint:     fmt.Sprintf("ethtool --set-priv-flags %s %s %s", name, a.flag, map[bool]string{true: "on", false: "off"}[a.on])}
	if os.Getpid() != 1 {
		return f, true
	}
	if has {
		err = ethtool.SetPrivateFlag(name, a.flag, a.on)
	} else if bdf, _ := sysfs.BusOf(root.Real(class, name, "device")); a.command != "" && bdf != "" {
		err = os.WriteFile(root.Path(fmt.Sprintf(a.command, bdf)), []byte("lldp stop"), 0)
	} else if err == nil {
		err = errors.New("the driver has no switch for it")
	}
	if err == nil {
		return hardware.Finding{}, false
	}
	f.Evidence += fmt.Sprintf("; switch it off: %v", err)
	return f, true
}
