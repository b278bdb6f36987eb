package pci

import (
	"bufio"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/ingot-metal/ingot/hardware/sysfs"
	"github.com/jaypipes/pcidb"
)

// maxNames bounds the unpacked pci.ids: Debian's is 1.5 MB.
const maxNames = 16 << 20

// wanted are the IDs of the devices that this machine has. The file lists
// 40,000 devices; keeping only these costs a tenth of pcidb's own reader.
type wanted map[string]bool

func (w wanted) add(vendor, device, class string) {
	vendor, device, class = strings.TrimPrefix(vendor, "0x"), strings.TrimPrefix(device, "0x"), strings.TrimPrefix(class, "0x")
	w[vendor], w[vendor+device] = true, true
	if len(class) >= 4 {
		w["C"+class[:2]], w["C"+class[:4]] = true, true
	}
}

// addSubsystem wants the name of a card that carries a device.
func (w wanted) addSubsystem(vendor, device, subvendor, subdevice string) {
	id := func(s string) string { return strings.TrimPrefix(s, "0x") }
	if id(subvendor) != "" {
		w[id(subvendor)], w["S"+id(vendor)+id(device)+id(subvendor)+id(subdevice)] = true, true
	}
}

// names reads the part of pci.ids that is wanted, where the file stands in a
// Debian or a Red Hat tree, packed or not.
func names(root sysfs.Root, want wanted) (*pcidb.DB, error) {
	for _, p := range []string{"usr/share/misc/pci.ids", "usr/share/hwdata/pci.ids", "usr/share/misc/pci.ids.gz", "usr/share/hwdata/pci.ids.gz"} {
		f, err := os.Open(root.Path(p))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		defer f.Close()
		var r io.Reader = f
		if strings.HasSuffix(p, ".gz") {
			if r, err = gzip.NewReader(f); err != nil {
				return nil, fmt.Errorf("unpack /%s: %w", p, err)
			}
		}
		db, err := parseNames(io.LimitReader(r, maxNames), want)
		if err != nil {
			return nil, fmt.Errorf("read /%s: %w", p, err)
		}
		return db, nil
	}
	return nil, errors.New("no pci.ids file")
}

// parseNames reads the format of pci.ids: vendors at the margin, devices after
// one tab, subsystems after two; then classes ("C 02"), subclasses after one
// tab, programming interfaces after two.
func parseNames(r io.Reader, want wanted) (*pcidb.DB, error) {
	db := &pcidb.DB{Classes: map[string]*pcidb.Class{}, Vendors: map[string]*pcidb.Vendor{}, Products: map[string]*pcidb.Product{}}
	var vendor *pcidb.Vendor
	var product *pcidb.Product
	var class *pcidb.Class
	lines := bufio.NewReaderSize(r, 64<<10)
	for {
		b, err := lines.ReadSlice('\n')
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) && !errors.Is(err, io.EOF) {
			return nil, err
		}
		switch {
		case len(b) < 7 || b[0] == '#' || b[0] == '\t' && vendor == nil && class == nil:
		case b[0] == '\t' && b[1] == '\t':
			if product != nil && len(b) > 12 && want["S"+product.VendorID+product.ID+string(b[2:6])+string(b[7:11])] {
				product.Subsystems = append(product.Subsystems, &pcidb.Product{VendorID: string(b[2:6]), ID: string(b[7:11]), Name: text(b[11:])})
			}
		case b[0] == 'C' && b[1] == ' ':
			vendor, product, class = nil, nil, nil
			if id := string(b[2:4]); want["C"+id] {
				class = &pcidb.Class{ID: id, Name: text(b[4:])}
				db.Classes[id] = class
			}
		case b[0] != '\t':
			vendor, product, class = nil, nil, nil
			if want[string(b[:4])] {
				vendor = &pcidb.Vendor{ID: string(b[:4]), Name: text(b[4:])}
				db.Vendors[vendor.ID] = vendor
			}
		case class != nil:
			if id := string(b[1:3]); want["C"+class.ID+id] {
				class.Subclasses = append(class.Subclasses, &pcidb.Subclass{ID: id, Name: text(b[3:])})
			}
		default:
			product = nil
			if id := string(b[1:5]); want[vendor.ID+id] {
				product = &pcidb.Product{VendorID: vendor.ID, ID: id, Name: text(b[5:])}
				db.Products[vendor.ID+id] = product
			}
		}
		if errors.Is(err, io.EOF) {
			return db, nil
		}
	}
}

func text(b []byte) string { return strings.TrimSpace(string(b)) }
