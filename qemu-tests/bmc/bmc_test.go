package bmc

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"
)

const testPassword = "correct-horse"

// plainServer is a server of one bit, for tests of the faces; the real one is
// QEMU, and the lab's tests have it.
type plainServer struct {
	mu      sync.Mutex
	on      bool
	actions []PowerAction
	boot    BootTarget
}

func (s *plainServer) On() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.on
}

func (s *plainServer) Power(_ context.Context, a PowerAction) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.on && a != PowerOn && a != PowerOff {
		return ErrOff
	}
	s.actions = append(s.actions, a)
	s.on = a != PowerOff && a != PowerShutdown
	return nil
}

func (s *plainServer) SetBoot(_ context.Context, target BootTarget) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.boot = target
	return nil
}

func (s *plainServer) last() PowerAction {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.actions) == 0 {
		return ""
	}
	return s.actions[len(s.actions)-1]
}

func (s *plainServer) target() BootTarget {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.boot
}

func testMachine() Machine {
	return Machine{
		Name: "t1", Manufacturer: "Ingot Lab", Product: "LS-1", Version: "1.0", SKU: "LS-1-x", Serial: "SER-0001", AssetTag: "A-1",
		UUID:      [16]byte{0x1a, 0xb0, 0x00, 0x01, 0x00, 0x01, 0x40, 0x01, 0x80, 0x00, 0x52, 0x54, 0x00, 0x01, 0x01, 0x01},
		BIOS:      BIOS{Vendor: "Ingot Lab", Version: "1.2.bios", Date: "01/05/2026"},
		Board:     Board{Manufacturer: "Ingot Lab", Product: "LS-1 board", PartNumber: "LB-100", Serial: "BRD-1"},
		Enclosure: Enclosure{Manufacturer: "Ingot Lab", PartNumber: "LC-1U", Serial: "CHS-1"},
		CPUs:      []CPU{{Socket: "CPU 0", Manufacturer: "Ingot Lab", Model: "Lab TCG CPU", Cores: 2, Threads: 2}},
		DIMMs: []DIMM{
			{Slot: "DIMM_A1", SizeBytes: 2 << 30, Type: "DDR4", SpeedMTs: 3200, Manufacturer: "Ingot Lab", PartNumber: "LM-2048", Serial: "D-1"},
			{Slot: "DIMM_B1", SizeBytes: 1 << 30, Type: "DDR4", SpeedMTs: 3200, Manufacturer: "Ingot Lab", PartNumber: "LM-1024", Serial: "D-2"},
		},
		Drives: []Drive{{Slot: "Bay 0", Protocol: "NVMe", Media: "SSD", Model: "QEMU NVMe Ctrl", Serial: "NVME-1", SizeBytes: 4 << 30}},
		NICs:   []NIC{{Name: "Port 1", MAC: net.HardwareAddr{0x52, 0x54, 0, 1, 1, 1}, LinkMbps: 1000}},
		PSUs: []PSU{
			{Slot: "PSU1", Manufacturer: "Ingot Lab", Model: "LP-800", PartNumber: "LP-800-A", Serial: "PS-1", Firmware: "1.0", Watts: 800},
			{Slot: "PSU2", Manufacturer: "Ingot Lab", Model: "LP-800", PartNumber: "LP-800-A", Serial: "PS-2", Firmware: "1.0", Watts: 800},
		},
		Controller: Controller{
			Address6: netip.MustParsePrefix("fd00:78::11/64"), Gateway6: netip.MustParseAddr("fd00:78::1"), VLAN: 78,
			Model: "LS-1 BMC", Firmware: "1.04", MAC: net.HardwareAddr{0x52, 0x54, 0, 1, 1, 0xbc},
			Address: netip.MustParsePrefix("127.0.0.1/8"), Gateway: netip.MustParseAddr("127.0.0.2"),
		},
	}
}

// bench is a BMC on sockets of the loopback.
type bench struct {
	*BMC
	server  *plainServer
	redfish string // URL
	ipmi    *net.UDPAddr
	kcs     string // path
}

func newBench(t testing.TB, change func(*Config)) *bench {
	t.Helper()
	b := &bench{server: &plainServer{}}
	cfg := Config{Machine: testMachine(), Server: b.server, Credentials: Credentials{User: "admin", Password: testPassword}}
	if change != nil {
		change(&cfg)
	}
	var err error
	if b.BMC, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	var l Listeners
	if l.Redfish, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	if l.IPMI, err = net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}); err != nil {
		t.Fatal(err)
	}
	b.kcs = t.TempDir() + "/kcs"
	if l.KCS, err = net.Listen("unix", b.kcs); err != nil {
		t.Fatal(err)
	}
	b.redfish, b.ipmi = "https://"+l.Redfish.Addr().String(), l.IPMI.LocalAddr().(*net.UDPAddr)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("serve = %v; want nil", err)
			}
		case <-time.After(10 * time.Second):
			t.Error("the BMC does not end with its context")
		}
	})
	return b
}

func TestNewRefuses(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"no server":     func(c *Config) { c.Server = nil },
		"no password":   func(c *Config) { c.Credentials.Password = "" },
		"long password": func(c *Config) { c.Credentials.Password = "123456789012345678901" },
		"long user":     func(c *Config) { c.Credentials.User = "12345678901234567" },
	} {
		cfg := Config{Machine: testMachine(), Server: &plainServer{}, Credentials: Credentials{User: "admin", Password: testPassword}}
		change(&cfg)
		if _, err := New(cfg); err == nil {
			t.Errorf("%s: New = nil; want an error", name)
		}
	}
}
