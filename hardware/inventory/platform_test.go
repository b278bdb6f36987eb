package inventory

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/ingot-metal/ingot/hardware"
	"github.com/ingot-metal/ingot/hardware/sysfs"
)

func TestRedactCmdline(t *testing.T) {
	for in, want := range map[string]string{
		"BOOT_IMAGE=/vmlinuz root=/dev/sda1 quiet\n":         "BOOT_IMAGE=/vmlinuz root=/dev/sda1 quiet",
		"ingot.token=abc rd.luks.key=/k bootpassword=x":      "ingot.token=[redacted] rd.luks.key=[redacted] bootpassword=[redacted]",
		`wifi-psk="two words" API_KEY=x SSHKEY=y keymap=de`:  "wifi-psk=[redacted] API_KEY=[redacted] SSHKEY=[redacted] keymap=de",
		"ks=http://joe:pw@host/ks.cfg url=http://h/a@b":      "ks=http://[redacted]@host/ks.cfg url=http://h/a@b",
		"bypass=1 author=me nokaslr console=ttyS0,115200n8":  "bypass=1 author=me nokaslr console=ttyS0,115200n8",
		`systemd.set_credential=a:b pass=x auth=basic "a b"`: `systemd.set_credential=[redacted] pass=[redacted] auth=[redacted] "a b"`,
	} {
		if got := redactCmdline(in); got != want {
			t.Errorf("redactCmdline(%q) = %q; want %q", in, got, want)
		}
	}
}

func TestUSBAndWatchdogs(t *testing.T) {
	root := t.TempDir()
	for path, content := range map[string]string{
		"sys/bus/usb/devices/usb1/idVendor":                   "1d6b\n",
		"sys/bus/usb/devices/1-4.2/idVendor":                  "0624\n",
		"sys/bus/usb/devices/1-4.2/idProduct":                 "0248\n",
		"sys/bus/usb/devices/1-4.2/bDeviceClass":              "00\n",
		"sys/bus/usb/devices/1-4.2/1-4.2:1.0/bInterfaceClass": "03\n",
		"sys/bus/usb/devices/1-4.2/product":                   "Virtual Keyboard \n",
		"sys/bus/usb/devices/1-4.2/speed":                     "480\n",
		"sys/bus/usb/devices/1-4.2:1.0/bInterfaceClass":       "03\n",
		"sys/class/watchdog/watchdog0/identity":               "iTCO_wdt\n",
		"sys/class/watchdog/watchdog0/timeout":                "30\n",
		"sys/class/watchdog/watchdog0/state":                  "inactive\n",
	} {
		plantFile(t, root, path, content)
	}
	u, err := usb(t.Context(), sysfs.Root(root))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]hardware.USBDevice{{Port: "1-4.2", VendorID: "0624", DeviceID: "0248", Class: "03", Product: "Virtual Keyboard",
		LinkMbps: 480, Sources: hardware.Sources{"usb"}}}, u.USB); d != "" {
		t.Errorf("usb (-want +got):\n%s", d)
	}
	w, err := watchdogs(t.Context(), sysfs.Root(root))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]hardware.Watchdog{{Name: "watchdog0", Identity: "iTCO_wdt", TimeoutSeconds: 30, Running: hardware.Disabled,
		Sources: hardware.Sources{"watchdog"}}}, w.Watchdogs); d != "" {
		t.Errorf("watchdogs (-want +got):\n%s", d)
	}
}
