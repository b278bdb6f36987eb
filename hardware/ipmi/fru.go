package ipmi

import (
	"context"
	"fmt"

	"github.com/bougou/go-ipmi/pkg/client"
	"github.com/bougou/go-ipmi/pkg/types"
	"github.com/ingot-metal/ingot/hardware"
)

// An area's length has one byte in units of eight, its offset too.
const maxFRU = 2 * 255 * 8

// chunk is what one Read FRU Data asks for; KCS carries 32 bytes everywhere.
const chunk = 32

// fru0 reads the FRU of the board that the BMC is on, and its areas on
// chassis, board and product only: what else is there may be long.
func fru0(ctx context.Context, c *client.Client, inv *hardware.Inventory) error {
	data, err := readFRU(ctx, c, 0)
	if err != nil {
		return err
	}
	f, problems := DecodeFRU(0, data)
	if len(problems) < 3 { // three areas, all broken, are no FRU
		f.Sources = hardware.Sources{Source}
		inv.FRUs = []hardware.FRU{f}
		fruParts(f, inv)
	}
	for _, p := range problems {
		inv.Findings = append(inv.Findings, hardware.Finding{Code: hardware.CodeSourceMalformed, Severity: hardware.Info,
			Part: "fru 0", Evidence: p.Error(), Source: Source})
	}
	return nil
}

// fruParts says of the system, the board and the chassis what the FRU knows;
// it fills what SMBIOS left blank.
func fruParts(f hardware.FRU, inv *hardware.Inventory) {
	if f.ProductName != "" || f.ProductSerial != "" {
		inv.System = hardware.System{Manufacturer: f.ProductManufacturer, Model: f.ProductName, Serial: f.ProductSerial,
			AssetTag: f.AssetTag, Sources: f.Sources}
	}
	if f.BoardProduct != "" || f.BoardSerial != "" {
		inv.Baseboard = hardware.Baseboard{Manufacturer: f.BoardManufacturer, Model: f.BoardProduct, Serial: f.BoardSerial, Sources: f.Sources}
	}
	if f.ChassisSerial != "" {
		inv.Chassis = hardware.Chassis{Serial: f.ChassisSerial, Sources: f.Sources}
	}
}

// readFRU reads the common header and the three areas that it names.
func readFRU(ctx context.Context, c *client.Client, id byte) ([]byte, error) {
	out := make([]byte, maxFRU)
	if err := readFRUBytes(ctx, c, id, out, 0, 8); err != nil {
		return nil, fmt.Errorf("common header: %w", err)
	}
	end := 8
	for _, at := range []int{2, 3, 4} {
		start := int(out[at]) * 8
		if start == 0 {
			continue
		}
		if err := readFRUBytes(ctx, c, id, out, start, start+8); err != nil {
			return nil, fmt.Errorf("area at %d: %w", start, err)
		}
		stop := start + int(out[start+1])*8
		if err := readFRUBytes(ctx, c, id, out, start+8, stop); err != nil {
			return nil, fmt.Errorf("area at %d: %w", start, err)
		}
		end = max(end, stop, start+8)
	}
	return out[:end], nil
}

func readFRUBytes(ctx context.Context, c *client.Client, id byte, out []byte, from, to int) error {
	if to > len(out) {
		return fmt.Errorf("ends at %d, beyond %d", to, len(out))
	}
	for from < to {
		n := min(chunk, to-from)
		res, err := c.ReadFRUData(ctx, id, uint16(from), uint8(n))
		if err != nil {
			return err
		}
		if len(res.Data) == 0 {
			return fmt.Errorf("nothing at %d", from)
		}
		from += copy(out[from:to], res.Data)
	}
	return nil
}

// The area's header and decoder, by its place in the common header (Platform
// Management FRU Information Storage Definition 1.0, chapter 8).
type fruArea struct {
	name   string
	at     int
	decode func([]byte, *hardware.FRU) error
}

// DecodeFRU reads a FRU's content. An area that is broken is left out and
// named among the problems; a panic of a decoder is a problem.
func DecodeFRU(id int, data []byte) (hardware.FRU, []error) {
	f := hardware.FRU{ID: id}
	if len(data) < 8 || data[0]&0xf != 1 {
		return f, []error{fmt.Errorf("no FRU common header in %d bytes", len(data))}
	}
	var problems []error
	for _, a := range []fruArea{{"chassis", 2, chassisArea}, {"board", 3, boardArea}, {"product", 4, productArea}} {
		start := int(data[a.at]) * 8
		if start == 0 {
			continue
		}
		if err := decodeArea(a, data, start, &f); err != nil {
			problems = append(problems, fmt.Errorf("%s area: %w", a.name, err))
		}
	}
	return f, problems
}

func decodeArea(a fruArea, data []byte, start int, f *hardware.FRU) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	if start+2 > len(data) {
		return fmt.Errorf("starts at %d of %d bytes", start, len(data))
	}
	end := start + int(data[start+1])*8
	if end > len(data) || end < start+8 {
		return fmt.Errorf("ends at %d of %d bytes", end, len(data))
	}
	return a.decode(data[start:end:end], f)
}

func chassisArea(b []byte, f *hardware.FRU) error {
	var a types.FRUChassisInfoArea
	if err := a.Unpack(b); err != nil {
		return err
	}
	f.ChassisPart, f.ChassisSerial = code(a.PartNumberTypeLength, a.PartNumber), code(a.SerialNumberTypeLength, a.SerialNumber)
	return nil
}

func boardArea(b []byte, f *hardware.FRU) error {
	var a types.FRUBoardInfoArea
	if err := a.Unpack(b); err != nil {
		return err
	}
	f.BoardManufacturer, f.BoardProduct = text(a.ManufacturerTypeLength, a.Manufacturer), text(a.ProductNameTypeLength, a.ProductName)
	f.BoardSerial, f.BoardPart = code(a.SerialNumberTypeLength, a.SerialNumber), code(a.PartNumberTypeLength, a.PartNumber)
	return nil
}

func productArea(b []byte, f *hardware.FRU) error {
	var a types.FRUProductInfoArea
	if err := a.Unpack(b); err != nil {
		return err
	}
	f.ProductManufacturer, f.ProductName = text(a.ManufacturerTypeLength, a.Manufacturer), text(a.NameTypeLength, a.Name)
	f.ProductPart, f.ProductVersion = code(a.PartModelTypeLength, a.PartModel), text(a.VersionTypeLength, a.Version)
	f.ProductSerial, f.AssetTag = code(a.SerialNumberTypeLength, a.SerialNumber), code(a.AssetTagTypeLength, a.AssetTag)
	return nil
}

func text(tl types.TypeLength, b []byte) string { return hardware.Clean(types.FRUFieldString(tl, b)) }
func code(tl types.TypeLength, b []byte) string {
	return hardware.CleanSerial(types.FRUFieldString(tl, b))
}
