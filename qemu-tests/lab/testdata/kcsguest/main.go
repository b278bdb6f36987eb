// Command kcsguest is the init of a guest that asks its BMC over /dev/ipmi0
// who it is, and prints the answers to the console.
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/bougou/go-ipmi/pkg/client"
	"github.com/bougou/go-ipmi/pkg/types"
	"github.com/u-root/u-root/pkg/smbios"
	"golang.org/x/sys/unix"

	"github.com/ingot-metal/ingot/hardware/ipmi"
)

func main() {
	if err := ask(); err != nil {
		fmt.Println("kcsguest: fault:", err)
	}
	fmt.Println("kcsguest: end")
	time.Sleep(time.Second)
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF); err != nil {
		fmt.Println("kcsguest: power off:", err)
	}
	select {}
}

func ask() error {
	if err := prepare(); err != nil {
		return err
	}
	c, err := client.NewOpenClient()
	if err != nil {
		return err
	}
	ctx := context.Background()
	if err := c.Connect(ctx); err != nil {
		return err
	}
	defer c.Close(ctx)
	start := time.Now()
	id, err := c.GetDeviceID(ctx)
	if err != nil {
		return fmt.Errorf("device ID: %w", err)
	}
	fmt.Printf("kcsguest: device %#02x ipmi %d.%d\n", id.DeviceID, id.MajorIPMIVersion, id.MinorIPMIVersion)
	fru, err := c.GetFRU(ctx, 0, "")
	if err != nil {
		return fmt.Errorf("FRU 0: %w", err)
	}
	fmt.Printf("kcsguest: product %s %s\n", fru.ProductInfoArea.Name, fru.ProductInfoArea.SerialNumber)
	ip := &types.LanConfigParam_IP{}
	if err := c.GetLanConfigParamFor(ctx, 1, ip); err != nil {
		return fmt.Errorf("LAN parameter 3: %w", err)
	}
	fmt.Printf("kcsguest: address %s\n", ip.IP)
	guid, err := c.GetSystemGUID(ctx)
	if err != nil {
		return fmt.Errorf("system GUID: %w", err)
	}
	fmt.Printf("kcsguest: guid %x\n", guid.GUID)
	if err := dimms(); err != nil {
		return err
	}
	fmt.Printf("kcsguest: asked in %s\n", time.Since(start).Round(time.Millisecond))
	return readers(ctx)
}

// readers are those that the agent runs: what the first report has of the BMC,
// and what follows it.
func readers(ctx context.Context) error {
	start := time.Now()
	inv, err := ipmi.Read(ctx, "/")
	if err != nil {
		return fmt.Errorf("first reader: %w", err)
	}
	took := time.Since(start).Round(time.Millisecond)
	fmt.Printf("kcsguest: first %s %s %v in %s\n", inv.System.Serial, inv.BMC.MAC, inv.BMC.Addresses, took)
	start = time.Now()
	v, err := ipmi.Late(ctx, "/")
	if err != nil {
		return fmt.Errorf("late reader: %w", err)
	}
	took = time.Since(start).Round(time.Millisecond)
	r := v.Readings
	fmt.Printf("kcsguest: late sensors %d psus %d frus %d logs %d in %s\n", len(r.Sensors), len(v.Inventory.PSUs), len(v.Inventory.FRUs), len(r.Logs), took)
	for _, s := range r.Sensors {
		if s.Value != nil {
			fmt.Printf("kcsguest: sensor %s %g %s %s\n", s.Name, *s.Value, s.Unit, s.Status)
		}
	}
	for _, a := range v.Inventory.BMC.Accounts {
		fmt.Printf("kcsguest: account %s %s %s\n", a.ID, a.Name, a.Privilege)
	}
	for _, f := range append(inv.Findings, v.Inventory.Findings...) {
		fmt.Printf("kcsguest: finding %s\n", f)
	}
	return nil
}

func dimms() error {
	tables, err := smbios.FromSysfs()
	if err != nil {
		return fmt.Errorf("SMBIOS: %w", err)
	}
	found, err := tables.GetMemoryDevices()
	if err != nil {
		return fmt.Errorf("SMBIOS type 17: %w", err)
	}
	for _, d := range found {
		fmt.Printf("kcsguest: dimm %s %d MiB %s\n", d.DeviceLocator, d.GetSizeBytes()>>20, d.SerialNumber)
	}
	system, err := tables.GetSystemInfo()
	if err != nil {
		return fmt.Errorf("SMBIOS type 1: %w", err)
	}
	fmt.Printf("kcsguest: system %s %s %s %s\n", system.Manufacturer, system.ProductName, system.SerialNumber, system.UUID)
	return nil
}

func prepare() error {
	for dir, kind := range map[string]string{"/proc": "proc", "/sys": "sysfs", "/dev": "devtmpfs"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(kind, dir, kind, 0, ""); err != nil {
			return fmt.Errorf("mount %s: %w", dir, err)
		}
	}
	for _, m := range []string{"ipmi_msghandler", "ipmi_devintf", "ipmi_si"} {
		f, err := os.Open("/" + m + ".ko.xz")
		if err != nil {
			return err
		}
		if err := unix.FinitModule(int(f.Fd()), "", unix.MODULE_INIT_COMPRESSED_FILE); err != nil {
			return fmt.Errorf("load %s: %w", m, err)
		}
		if err := f.Close(); err != nil {
			return err
		}
	}
	for range 100 {
		if _, err := os.Stat("/dev/ipmi0"); err == nil {
			return nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	return fmt.Errorf("wait for /dev/ipmi0: not there after 10 s")
}
