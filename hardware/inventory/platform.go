package inventory

import (
	"context"
	"regexp"
	"runtime"
	"strconv"
	"strings"

	"github.com/ingot-metal/ingot/hardware"
	"github.com/ingot-metal/ingot/hardware/sysfs"
)

func kernel(_ context.Context, root sysfs.Root) (hardware.Inventory, error) {
	release := root.Text("proc/sys/kernel/osrelease")
	if release == "" {
		return hardware.Inventory{}, nil
	}
	k := hardware.Kernel{Release: release, Cmdline: redactCmdline(root.Text("proc/cmdline")), Sources: hardware.Sources{"kernel"}}
	if arch := root.Text("proc/sys/kernel/arch"); arch != "" { // since 6.1
		k.Arch = map[string]string{"x86_64": "amd64", "aarch64": "arm64"}[arch]
		if k.Arch == "" {
			k.Arch = arch
		}
	} else if root.Live() {
		k.Arch = runtime.GOARCH
	}
	return hardware.Inventory{Kernel: k}, nil
}

const redacted = "[redacted]"

var (
	secretName = regexp.MustCompile(`(?i)(passw|token|secret|credential|(^|[^a-z])(pass|pwd|psk|auth)([^a-z]|$)|key([^a-z]|$))`)
	userInURL  = regexp.MustCompile(`(://)[^/@\s]+@`)
)

// redactCmdline takes the values of parameters out whose names sound like a
// secret's, and users and passwords out of URLs. Parameters are parted by
// spaces outside of double quotes (kernel-parameters.txt).
func redactCmdline(s string) string {
	quoted := false
	words := strings.FieldsFunc(s, func(r rune) bool {
		if r == '"' {
			quoted = !quoted
		}
		return !quoted && (r == ' ' || r == '\n' || r == '\t')
	})
	for i, w := range words {
		if name, _, ok := strings.Cut(w, "="); ok && secretName.MatchString(name) {
			w = name + "=" + redacted
		}
		words[i] = userInURL.ReplaceAllString(w, "${1}"+redacted+"@")
	}
	return strings.Join(words, " ")
}

// usb lists what is plugged in; the hubs that a controller is itself are not.
func usb(_ context.Context, root sysfs.Root) (hardware.Inventory, error) {
	const devices = "sys/bus/usb/devices"
	var inv hardware.Inventory
	for _, name := range root.Names(devices) {
		if name == "" || name[0] < '0' || name[0] > '9' || strings.Contains(name, ":") {
			continue // usb1 is a root hub, 1-4:1.0 an interface
		}
		text := func(file string) string { return root.Text(devices, name, file) }
		d := hardware.USBDevice{
			Port: name, VendorID: text("idVendor"), DeviceID: text("idProduct"), Class: text("bDeviceClass"),
			Manufacturer: hardware.Clean(text("manufacturer")), Product: hardware.Clean(text("product")),
			Serial: hardware.CleanSerial(text("serial")), Sources: hardware.Sources{"usb"},
		}
		if d.VendorID == "" {
			continue
		}
		if d.Class == "00" { // each interface has its own
			d.Class = root.Text(devices, name, name+":1.0", "bInterfaceClass")
		}
		if mbps, err := strconv.ParseFloat(text("speed"), 64); err == nil && mbps >= 1 && mbps < 1e6 {
			d.LinkMbps = int(mbps)
		}
		inv.USB = append(inv.USB, d)
	}
	return inv, nil
}

// watchdogs asks sysfs: opening the device would start it.
func watchdogs(_ context.Context, root sysfs.Root) (hardware.Inventory, error) {
	const class = "sys/class/watchdog"
	var inv hardware.Inventory
	for _, name := range root.Names(class) {
		w := hardware.Watchdog{Name: name, Identity: hardware.Clean(root.Text(class, name, "identity")), Sources: hardware.Sources{"watchdog"}}
		if s, ok := root.Uint(class, name, "timeout"); ok && s < 1<<31 {
			w.TimeoutSeconds = int(s)
		}
		switch root.Text(class, name, "state") {
		case "active":
			w.Running = hardware.Enabled
		case "inactive":
			w.Running = hardware.Disabled
		}
		inv.Watchdogs = append(inv.Watchdogs, w)
	}
	return inv, nil
}
