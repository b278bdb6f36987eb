package redfish

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/ingot-metal/ingot/hardware"
)

// place is where a part sits, as the vendor labels it.
func place(n node) string {
	locations := append([]node{n.obj("PhysicalLocation"), n.obj("Slot", "Location")}, n.list("Location")...)
	for _, o := range oems(n) {
		locations = append(locations, o.obj("Location"))
	}
	for _, l := range locations {
		if s := first(l.str("PartLocation", "ServiceLabel"), l.str("Info")); s != "" {
			return s
		}
	}
	for _, l := range locations {
		if p := l.obj("PartLocation"); p.str("LocationOrdinalValue") != "" && p.str("LocationType") != "" {
			return p.str("LocationType") + " " + p.str("LocationOrdinalValue")
		}
	}
	return ""
}

// dimmFacts takes a memory device: a place, and what sits in it. The memory
// of a GPU is none of the server's DIMMs.
func dimmFacts(n node) (slot hardware.DIMMSlot, d hardware.DIMM, ok bool) {
	name := first(n.str("DeviceLocator"), n.str("SocketLocator"), place(n), n.str("Name"), n.str("Id"))
	kind := first(n.str("MemoryDeviceType"), n.str("DIMMType"))
	if strings.HasPrefix(kind, "HBM") || strings.HasPrefix(kind, "GDDR") || gpuMemory.MatchString(n.str("Id")) {
		return slot, d, false
	}
	size := memoryBytes(n)
	if name == "" && size == 0 {
		return slot, d, false
	}
	gone := n.absent() || strings.EqualFold(n.str("DIMMStatus"), "NotPresent")
	slot = hardware.DIMMSlot{Name: name, Populated: size > 0 && !gone, Sources: from}
	if !slot.Populated {
		return slot, d, true
	}
	d = hardware.DIMM{
		Slot: name, SizeBytes: size, Serial: n.str("SerialNumber"), Manufacturer: first(n.str("Manufacturer"), n.str("VendorName")),
		Part: first(n.str("PartNumber"), n.str("Oem", "Hpe", "PartNumber")), Type: strings.ReplaceAll(kind, "_", " "),
		Module: first(n.str("BaseModuleType"), n.str("Oem", "Hpe", "BaseModuleType")), Ranks: max(n.small("RankCount"), n.small("Rank")),
		Bank: n.str("BankLocator"), Sources: from,
	}
	d.ConfiguredMTs = n.small("OperatingSpeedMhz")
	d.SpeedMTs = n.small("MaximumFrequencyMHz")
	for _, v := range n.list2("AllowedSpeedsMHz") {
		d.SpeedMTs = max(d.SpeedMTs, v)
	}
	if d.SpeedMTs == 0 {
		d.SpeedMTs, d.ConfiguredMTs = d.ConfiguredMTs, 0
	}
	switch n.str("ErrorCorrection") {
	case "SingleBitECC", "MultiBitECC", "AddressParity":
		d.ECC = hardware.Enabled
	case "NoECC":
		d.ECC = hardware.Disabled
	}
	return slot, d, true
}

var gpuMemory = regexp.MustCompile(`(?i)^(GPU|FPGA).*(DRAM|HBM|MEM)`)

// list2 are the small numbers of an array.
func (n node) list2(path ...string) []int {
	v, _ := n.at(path...).([]any)
	var out []int
	for _, e := range v {
		if k := (node{"v": e}).small("v"); k > 0 && k < 1<<20 {
			out = append(out, k)
		}
	}
	return out
}

// memoryBytes is a DIMM's size. The property says MiB; a number too small to
// be that is GiB, one too large is bytes.
func memoryBytes(n node) uint64 {
	const tooSmall, tooLarge = 128, 1 << 27
	for _, k := range []string{"CapacityMiB", "SizeMB"} {
		v, ok := n.num(k)
		switch {
		case ok && v > 0 && v < tooSmall:
			return n.bytes(gib, k)
		case ok && v > tooLarge:
			return n.bytes(1, k)
		}
		if b := n.bytes(mib, k); b > 0 {
			return b
		}
	}
	if b := n.bytes(gib, "CapacityGiB"); b > 0 {
		return b
	}
	return n.bytes(mib, "VolatileSizeMiB") + n.bytes(mib, "NonVolatileSizeMiB")
}

// persistent reports whether a memory device keeps what it holds, and is no
// part of the memory that a system runs in.
func persistent(n node) bool {
	t := n.str("MemoryType")
	return strings.HasPrefix(t, "NVDIMM") || strings.HasPrefix(t, "Intel") || strings.HasPrefix(n.str("MemoryDeviceType"), "Logical")
}

// processorKind is what a processor is: cpu, gpu, accelerator, fpga, or
// nothing that is a part: an empty socket, one core, a helper on a board.
func processorKind(n node) string {
	kind := map[string]string{"": "cpu", "CPU": "cpu", "GPU": "gpu", "Accelerator": "accelerator", "FPGA": "fpga", "DSP": "accelerator",
		"OEM": "accelerator"}[n.str("ProcessorType")]
	named := strings.ToLower(first(n.str("Id"), n.str("Name")))
	switch {
	case n.absent():
		return ""
	case kind == "cpu" && (strings.HasPrefix(named, "gpu") || strings.HasPrefix(named, "video.")) && cores(n) == 0:
		return "gpu"
	case kind == "cpu" && first(n.str("Model"), n.str("Manufacturer"), n.str("ProcessorId", "VendorId")) == "" && cores(n) == 0:
		return ""
	case kind == "fpga" && strings.HasPrefix(strings.ToLower(n.str("Manufacturer")), "nvidia"):
		return "" // watches over the GPUs of a board
	case kind == "accelerator" && n.str("ProcessorType") == "OEM" && n.str("Model") == "":
		return ""
	}
	return kind
}

func cores(n node) int { return max(n.small("TotalCores"), n.small("TotalEnabledCores")) }

func cpuFacts(n node) hardware.CPU {
	c := hardware.CPU{
		Socket: first(n.str("Socket"), place(n), n.str("Name"), n.str("Id")), Manufacturer: n.str("Manufacturer"), Model: n.str("Model"),
		Serial: n.str("SerialNumber"), Part: n.str("PartNumber"), Cores: n.small("TotalCores"), Threads: n.small("TotalThreads"),
		MaxMHz: n.small("MaxSpeedMHz"), Microcode: microcode(n.str("ProcessorId", "MicrocodeInfo")), Sources: from,
	}
	if c.Cores == 0 {
		c.Cores = cores(n)
	}
	c.Family, c.ModelNumber = hexSmall(n.str("ProcessorId", "EffectiveFamily")), hexSmall(n.str("ProcessorId", "EffectiveModel"))
	c.Stepping = hexSmall(n.str("ProcessorId", "Step"))
	return c
}

// microcode is 0x and lower-case digits, as the kernel writes it.
func microcode(s string) string {
	v, err := strconv.ParseUint(strings.TrimPrefix(strings.ToLower(strings.TrimSpace(s)), "0x"), 16, 64)
	if err != nil || v == 0 {
		return ""
	}
	return fmt.Sprintf("0x%x", v)
}

// hexSmall reads 0x6 and 6 alike; DSP0266 has them in hexadecimal.
func hexSmall(s string) int {
	s = strings.ToLower(strings.TrimSpace(s))
	base := 10
	if strings.HasPrefix(s, "0x") {
		s, base = s[2:], 16
	}
	v, err := strconv.ParseUint(s, base, 16)
	if err != nil {
		return 0
	}
	return int(v)
}

// cpuSummary stands in for processors that cannot be read.
func cpuSummary(system node) []hardware.CPU {
	s := system.obj("ProcessorSummary")
	if s == nil {
		s = system.obj("Processors") // before Redfish 1.0
	}
	var out []hardware.CPU
	for range min(s.count("Count"), 64) {
		out = append(out, hardware.CPU{Model: first(s.str("Model"), s.str("ProcessorFamily")), Sources: from})
	}
	return out
}

func gpuFacts(n node, kind string) hardware.GPU {
	memory := n.bytes(mib, "MemorySummary", "TotalMemorySizeMiB")
	for _, m := range n.list("ProcessorMemory") {
		if n["MemorySummary"] == nil && !strings.HasSuffix(m.str("MemoryType"), "Cache") {
			memory += m.bytes(mib, "CapacityMiB")
		}
	}
	return hardware.GPU{
		Name: first(n.str("Name"), n.str("Id")), Kind: kind, Manufacturer: n.str("Manufacturer"), Model: n.str("Model"),
		Serial: n.str("SerialNumber"), Part: n.str("PartNumber"), UUID: hardware.ParseUUID(n.str("UUID")), Firmware: n.str("FirmwareVersion"),
		MemoryBytes: memory, Slot: place(n), Sources: from,
	}
}

// pciFacts is one function of a device. Either may be absent: some BMCs list
// no functions, and some functions say all.
func pciFacts(device, fn node) hardware.PCIDevice {
	p := hardware.PCIDevice{
		BDF: bdfOf(device, fn), VendorID: id16(fn, "VendorId", "VendorID"), DeviceID: id16(fn, "DeviceId", "DeviceID"),
		SubsystemVendorID: id16(fn, "SubsystemVendorId", "SubsystemVendorID"), SubsystemID: id16(fn, "SubsystemId", "SubsystemDeviceID"),
		Revision: hexDigits(fn.str("RevisionId"), 2), Class: classOf(fn), ClassName: fn.str("DeviceClass"), Vendor: device.str("Manufacturer"),
		Device: first(device.str("Model"), device.str("Name"), fn.str("Name")), Sources: from,
		Slot: first(place(device), fn.str("DeviceLocation")),
	}
	i := device.obj("PCIeInterface")
	p.Link = hardware.PCIeLink{SpeedGTs: generations[i.str("PCIeType")], Width: lanes(i, "LanesInUse"),
		MaxSpeedGTs: generations[i.str("MaxPCIeType")], MaxWidth: lanes(i, "MaxLanes")}
	p.VPD = hardware.VPD{Part: device.str("PartNumber"), Serial: device.str("SerialNumber")}
	return p
}

var generations = map[string]float64{"Gen1": 2.5, "Gen2": 5, "Gen3": 8, "Gen4": 16, "Gen5": 32, "Gen6": 64}

func lanes(n node, property string) int {
	if v := n.small(property); v <= 32 {
		return v
	}
	return 0 // 255 and the like say that it is not known
}

// id16 are four digits, of the first property that is a number. In DSP0268 it
// is a text in hexadecimal; HPE has a number.
func id16(n node, properties ...string) string {
	for _, p := range properties {
		d := hexDigits(n.str(p), 4)
		if _, plain := n[p].(json.Number); plain && n.count(p) < 1<<16 {
			d = fmt.Sprintf("%04x", n.count(p))
		}
		if d != "" && d != "ffff" {
			return d
		}
	}
	return ""
}

// classOf are the six digits of the class code; HPE has its bytes one by one.
func classOf(n node) string {
	if _, plain := n["ClassCode"].(json.Number); plain {
		return fmt.Sprintf("%02x%02x00", n.count("ClassCode")&0xff, n.count("SubclassCode")&0xff)
	}
	return hexDigits(n.str("ClassCode"), 6)
}

func hexDigits(s string, n int) string {
	s = strings.TrimPrefix(strings.ToLower(strings.TrimSpace(s)), "0x")
	v, err := strconv.ParseUint(s, 16, 64)
	if err != nil || s == "" || len(s) > 8 || v >= 1<<(4*n) {
		return ""
	}
	return fmt.Sprintf("%0*x", n, v)
}

var (
	bdfText = regexp.MustCompile(`(?i)\b(?:([0-9a-f]{4}):)?([0-9a-f]{2}):([0-9a-f]{2})[:.]([0-9a-f]{1,2})\b`)
	bdfDell = regexp.MustCompile(`^(\d{1,3})-(\d{1,2})-(\d)$`)
)

// bdfOf is the address of a function. No property is for it: HPE and Huawei
// have numbers, Lenovo a text in the name, Dell the Id, in decimal.
func bdfOf(device, fn node) hardware.BDF {
	for _, n := range append([]node{fn}, oems(fn)...) {
		if n["BusNumber"] != nil && n["DeviceNumber"] != nil {
			bus, dev, f := number(n.str("BusNumber")), number(n.str("DeviceNumber")), number(n.str("FunctionNumber"))
			return bdf(max(0, number(n.str("SegmentNumber"))), bus, dev, max(0, f))
		}
	}
	for _, s := range []string{fn.str("Id"), fn.str("Name"), fn.str("BDF"), device.str("Id")} {
		if m := bdfText.FindStringSubmatch(s); m != nil {
			segment, _ := strconv.ParseInt("0"+m[1], 16, 32) // matched as digits
			bus, _ := strconv.ParseInt(m[2], 16, 32)
			dev, _ := strconv.ParseInt(m[3], 16, 32)
			f, _ := strconv.ParseInt(m[4], 16, 32)
			return bdf(int(segment), int(bus), int(dev), int(f))
		}
	}
	if m := bdfDell.FindStringSubmatch(fn.str("Id")); m != nil && device.str("Id") == m[1]+"-"+m[2] {
		return bdf(0, number(m[1]), number(m[2]), number(m[3]))
	}
	return ""
}

func bdf(segment, bus, dev, fn int) hardware.BDF {
	if segment < 0 || segment > 0xffff || bus < 0 || bus > 255 || dev < 0 || dev > 31 || fn < 0 || fn > 7 {
		return ""
	}
	return hardware.BDF(fmt.Sprintf("%04x:%02x:%02x.%x", segment, bus, dev, fn))
}

// number reads decimal and 0x; -1 where it is none.
func number(s string) int {
	v, err := strconv.ParseInt(strings.TrimSpace(s), 0, 32)
	if err != nil {
		return -1
	}
	return int(v)
}

// oems are the vendors' own objects of a resource, in the order of their
// names.
func oems(n node) []node {
	var out []node
	all := n.obj("Oem")
	for _, k := range slices.Sorted(maps.Keys(all)) {
		if m := all.obj(k); m != nil {
			out = append(out, m)
		}
	}
	return out
}

// graphics reports whether a PCI function is a GPU: a display or an
// accelerator that is not the BMC's own screen.
func graphics(p hardware.PCIDevice) bool {
	display := strings.HasPrefix(p.Class, "03") || p.Class == "" && strings.HasPrefix(p.ClassName, "Display")
	computes := strings.HasPrefix(p.Class, "12") || p.Class == "" && p.ClassName == "ProcessingAccelerators"
	switch p.VendorID {
	case "10de", "1002": // NVIDIA, AMD
		return display || computes
	case "": // nothing but the class is known
		return computes
	}
	return computes || strings.HasPrefix(p.Class, "0302") || strings.HasPrefix(p.Class, "0380")
}
