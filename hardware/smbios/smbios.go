// Package smbios reads the tables of DSP0134 that firmware leaves in memory,
// as the kernel shows them below /sys/firmware/dmi/tables.
package smbios

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/ingot-metal/ingot/hardware"
	"github.com/ingot-metal/ingot/hardware/sysfs"
	"github.com/u-root/u-root/pkg/smbios"
)

// Source is how parts name this reader.
const Source = "smbios"

const dmi = "sys/firmware/dmi/tables/DMI"

// Bounds: the largest tables seen on servers are 60 KiB.
const (
	maxTable      = 1 << 20
	maxStructures = 4096
)

// Read decodes the tables below root. A machine without them (most of arm64
// that boots by device tree) yields nothing and no error.
func Read(_ context.Context, root sysfs.Root) (hardware.Inventory, error) {
	entry, err := root.Bytes(4096, "sys/firmware/dmi/tables/smbios_entry_point")
	if errors.Is(err, fs.ErrNotExist) {
		return hardware.Inventory{}, nil
	}
	if errors.Is(err, fs.ErrPermission) {
		return withoutTables(root), nil
	}
	if err != nil {
		return hardware.Inventory{}, fmt.Errorf("read SMBIOS entry point: %w", err)
	}
	table, err := root.Bytes(maxTable, dmi)
	if err != nil {
		return hardware.Inventory{}, fmt.Errorf("read SMBIOS tables: %w", err)
	}
	return Decode(entry, table)
}

// Decode makes a partial inventory out of an entry point and its tables. One
// broken structure costs that structure and a finding. A panic of the decoder
// is an error.
func Decode(entry, table []byte) (inv hardware.Inventory, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("decode SMBIOS: panic: %v", p)
		}
	}()
	if len(table) > maxTable {
		return inv, fmt.Errorf("decode SMBIOS: %d bytes, at most %d", len(table), maxTable)
	}
	d := decoder{inv: &inv, version: 0x0300}
	switch e32, e64, err := smbios.ParseEntry(entry); {
	case err != nil:
		d.malformed("entry point", err)
	case e32 != nil:
		d.version = uint16(e32.SMBIOSMajorVersion)<<8 | uint16(e32.SMBIOSMinorVersion)
	case e64 != nil:
		d.version = uint16(e64.SMBIOSMajorVersion)<<8 | uint16(e64.SMBIOSMinorVersion)
	}
	if n, err := each(table, d.structure); err != nil {
		d.malformed(fmt.Sprintf("structure %d", n), err)
	}
	d.finish()
	return inv, nil
}

// each calls f with every structure, until one cannot be taken apart: then it
// returns the number of that one.
func each(table []byte, f func(*smbios.Table)) (int, error) {
	for n := 0; len(table) >= 4 && n < maxStructures; n++ {
		t, rest, err := smbios.ParseTable(table)
		if t == nil {
			return n, err
		}
		if t.Type == smbios.TableTypeEndOfTable || len(rest) >= len(table) {
			break
		}
		f(t)
		table = rest
	}
	return 0, nil
}

type decoder struct {
	inv     *hardware.Inventory
	version uint16
}

var from = hardware.Sources{Source}

func (d *decoder) malformed(what string, err error) {
	d.inv.Findings = append(d.inv.Findings, hardware.Finding{
		Code: hardware.CodeSourceMalformed, Severity: hardware.Info, Part: what,
		Evidence: err.Error(), Hint: "a firmware update may mend it", Source: Source})
}

// structure takes one table. Types are those of DSP0134 chapter 7.
func (d *decoder) structure(t *smbios.Table) {
	decode, known := map[smbios.TableType]func(*smbios.Table) error{
		smbios.TableTypeBIOSInfo:       d.bios,
		smbios.TableTypeSystemInfo:     d.system,
		smbios.TableTypeBaseboardInfo:  d.baseboard,
		smbios.TableTypeChassisInfo:    d.chassis,
		smbios.TableTypeProcessorInfo:  d.processor,
		smbios.TableTypeMemoryDevice:   d.memoryDevice,
		smbios.TableTypeIPMIDeviceInfo: d.ipmiDevice,
		smbios.TableTypeTPMDevice:      d.tpm,
		typeMemoryArray:                d.memoryArray,
		typePowerSupply:                d.powerSupply,
		typeFirmware:                   d.firmware,
	}[t.Type]
	if !known {
		return
	}
	if err := decode(t); err != nil {
		d.malformed(fmt.Sprintf("type %d handle 0x%04x", t.Type, t.Handle), err)
	}
}

func (d *decoder) bios(t *smbios.Table) error {
	b, err := smbios.ParseBIOSInfo(t)
	if err != nil {
		return err
	}
	d.inv.BIOS = hardware.BIOS{Vendor: hardware.Clean(b.Vendor), Version: hardware.Clean(b.Version), Date: date(b.ReleaseDate), Sources: from}
	return nil
}

// date is mm/dd/yyyy or mm/dd/yy (7.1) as 2006-01-02, or as it stands.
func date(s string) string {
	s = hardware.Clean(s)
	for _, layout := range []string{"01/02/2006", "01/02/06"} {
		if t, err := time.Parse(layout, s); err == nil {
			return t.Format(time.DateOnly)
		}
	}
	return s
}

func (d *decoder) system(t *smbios.Table) error {
	if d.inv.System.Sources != nil {
		return nil
	}
	s, err := smbios.ParseSystemInfo(t)
	if err != nil {
		return err
	}
	u := hardware.ParseUUID(s.UUID.String())
	if d.version < 0x0206 {
		u = u.Swapped() // before 2.6 the fields were in network order (7.2.1)
	}
	d.inv.System = hardware.System{
		Manufacturer: hardware.Clean(s.Manufacturer), Model: hardware.Clean(s.ProductName),
		Version: hardware.Clean(s.Version), Serial: hardware.CleanSerial(s.SerialNumber),
		UUID: u, SKU: hardware.Clean(s.SKUNumber), Family: hardware.Clean(s.Family), Sources: from,
	}
	return nil
}

// baseboard takes the first board, which is the main one; blades and risers
// follow it.
func (d *decoder) baseboard(t *smbios.Table) error {
	if d.inv.Baseboard.Sources != nil {
		return nil
	}
	b, err := smbios.ParseBaseboardInfo(t)
	if err != nil {
		return err
	}
	d.inv.Baseboard = hardware.Baseboard{
		Manufacturer: hardware.Clean(b.Manufacturer), Model: hardware.Clean(b.Product),
		Version: hardware.Clean(b.Version), Serial: hardware.CleanSerial(b.SerialNumber),
		AssetTag: hardware.CleanSerial(b.AssetTag), Sources: from,
	}
	return nil
}

func (d *decoder) chassis(t *smbios.Table) error {
	if d.inv.Chassis.Sources != nil {
		return nil
	}
	c, err := smbios.ParseChassisInfo(t)
	if err != nil {
		return err
	}
	d.inv.Chassis = hardware.Chassis{
		Manufacturer: hardware.Clean(c.Manufacturer), Version: hardware.Clean(c.Version),
		Serial: hardware.CleanSerial(c.SerialNumber), AssetTag: hardware.CleanSerial(c.AssetTagNumber),
		Type: chassisType(c.Type), SKU: hardware.Clean(c.SKUNumber), Sources: from,
	}
	return nil
}

func chassisType(t smbios.ChassisType) string {
	s := t.String()
	if s == "Other" || strings.HasPrefix(s, "0x") {
		return ""
	}
	return hardware.Clean(s)
}

func (d *decoder) processor(t *smbios.Table) error {
	p, err := smbios.ParseProcessorInfo(t)
	if err != nil {
		return err
	}
	if p.Status&0x40 == 0 || p.Type != smbios.ProcessorTypeCentralProcessor {
		return nil // an empty socket, or a coprocessor
	}
	d.inv.CPUs = append(d.inv.CPUs, hardware.CPU{
		Socket: hardware.Clean(p.SocketDesignation), Manufacturer: hardware.Clean(p.Manufacturer),
		Model: hardware.Clean(p.Version), Serial: hardware.CleanSerial(p.SerialNumber),
		Part: hardware.CleanSerial(p.PartNumber), Cores: p.GetCoreCount(), Threads: p.GetThreadCount(), MaxMHz: int(p.MaxSpeed), Sources: from,
	})
	return nil
}

func (d *decoder) ipmiDevice(t *smbios.Table) error {
	i, err := smbios.ParseIPMIDeviceInfo(t)
	if err != nil {
		return err
	}
	rev := i.IPMISpecificationRevision // BCD: 0x20 is 2.0
	if rev>>4 > 0 && rev>>4 < 10 {
		d.inv.BMC = hardware.BMC{IPMIVersion: fmt.Sprintf("%d.%d", rev>>4, rev&0xf), Sources: from}
	}
	return nil
}

func (d *decoder) tpm(t *smbios.Table) error {
	m, err := smbios.NewTPMDevice(t)
	if err != nil {
		return err
	}
	vendor := strings.TrimRight(string(m.VendorID[:]), "\x00 ")
	d.inv.TPM = hardware.TPM{Manufacturer: hardware.Clean(vendor), Sources: from}
	if v := m.FirmwareVersion1; m.MajorSpecVersion == 2 && v > 0 && v < 1<<32-1 {
		d.inv.TPM.Firmware = fmt.Sprintf("%d.%d", v>>16, v&0xffff)
	}
	if m.MajorSpecVersion > 0 {
		d.inv.TPM.Version = fmt.Sprintf("%d.%d", m.MajorSpecVersion, m.MinorSpecVersion)
	}
	return nil
}

func (d *decoder) finish() {
	var sum uint64
	for _, m := range d.inv.DIMMs {
		sum += m.SizeBytes
	}
	if d.inv.Memory.SizeBytes = sum; d.inv.Memory.ECC != "" || sum > 0 {
		d.inv.Memory.Sources = from
	}
}
